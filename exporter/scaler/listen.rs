//! Connections for gRPC.

use crate::tls::{Tls, Wire};
use futures_util::Stream;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// Connections at once: KEDA has one for all of its ScaledObjects.
const CONNECTIONS: usize = 256;
/// How long a client may take to say something.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// Connections as they come; handshakes go on beside one another, each within its time.
pub fn incoming(listener: TcpListener, tls: Option<Tls>) -> impl Stream<Item = io::Result<Link>> {
    let (ready, links) = mpsc::channel(1);
    tokio::spawn(async move {
        let seats = Arc::new(Semaphore::new(CONNECTIONS));
        let tls = tls.map(Arc::new);
        loop {
            // Beyond them a client waits in the queue of the listener.
            let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { break };
            let stream = tokio::select! {
                () = ready.closed() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "can't accept a gRPC connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let _ = stream.set_nodelay(true);
            let (ready, tls) = (ready.clone(), tls.clone());
            tokio::spawn(async move {
                // A client that says nothing holds no seat: gRPC's speak first, with or without TLS.
                if tokio::time::timeout(FIRST_WORD, stream.peek(&mut [0])).await.is_err() {
                    return tracing::debug!("a gRPC client said nothing");
                }
                let stream = match tls {
                    None => Wire::Plain(stream),
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => stream,
                        Err(error) => return tracing::debug!(%error, "a gRPC client was refused"),
                    },
                };
                let _ = ready.send(Ok(Link { stream, _seat: seat })).await;
            });
        }
    });
    ReceiverStream::new(links)
}

/// A connection, and its seat.
pub struct Link {
    stream: Wire,
    _seat: OwnedSemaphorePermit,
}

impl Connected for Link {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
