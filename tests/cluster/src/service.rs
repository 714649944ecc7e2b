//! One address for several servers, as a Service is: each connection goes to one of those that take it.

use anyhow::Result;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// It takes connections until it is dropped.
pub struct Service(JoinHandle<()>);

impl Drop for Service {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Service {
    /// Listens on `address` for these servers.
    pub async fn start(address: SocketAddr, servers: Vec<SocketAddr>) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            let mut turn = 0;
            while let Ok((client, _)) = listener.accept().await {
                turn += 1;
                let mut servers = servers.clone();
                let first = turn % servers.len();
                servers.rotate_left(first);
                connections.spawn(pass(client, servers));
                while connections.try_join_next().is_some() {}
            }
        })))
    }
}

async fn pass(mut client: TcpStream, servers: Vec<SocketAddr>) {
    for address in servers {
        if let Ok(mut server) = TcpStream::connect(address).await {
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
