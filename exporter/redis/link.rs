//! One connection to one Redis node, for reads alone.
//!
//! Cost of an exchange: one write, and as many reads of the socket as the replies need at [`CHUNK`] bytes each. A link on
//! which an exchange failed or was broken off is of no more use: replies to it may still come.

use super::resp::{Batch, Decoder, Word};
use super::settings::of_tls;
use crate::reads::{ReadError, Reply};
use bytes::BytesMut;
use fred::types::config::Server;
use futures_util::FutureExt;
use rustls::pki_types::ServerName;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Room for what is read from the socket at once, and how little of it is left before there is more of it: what was read stays where it
/// is for as long as its replies are looked at.
const CHUNK: usize = 64 << 10;
const LEAST: usize = 8 << 10;

/// How a link logs in.
pub struct Login {
    /// For TLS.
    pub tls: Option<TlsConnector>,
    /// The user; the server's default one unless given.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The number of the database.
    pub database: u8,
}

/// A connection that is logged in.
pub struct Link {
    stream: Box<dyn Stream>,
    /// Kept from exchange to exchange: memory that is given back and taken again at each poll costs more than what is done with it.
    batch: Batch,
    buffer: BytesMut,
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

impl Link {
    /// Connects and logs in, within this time.
    ///
    /// # Errors
    /// [`ReadError::Login`] where Redis refuses the login, else [`ReadError::NoAnswer`].
    pub async fn open(server: &Server, login: &Login, limit: Duration) -> Result<Self, ReadError> {
        let opened = tokio::time::timeout(limit, Self::connect(server, login)).await;
        opened.unwrap_or_else(|_| Err(ReadError::NoAnswer("connecting timed out".into())))
    }

    async fn connect(server: &Server, login: &Login) -> Result<Self, ReadError> {
        let host: &str = &server.host;
        let stream = TcpStream::connect((host, server.port)).await.map_err(silence)?;
        stream.set_nodelay(true).map_err(silence)?;
        let stream: Box<dyn Stream> = match &login.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = server.tls_server_name.as_deref().unwrap_or(host);
                let name = ServerName::try_from(name.to_string()).map_err(|error| silence(io::Error::other(error)))?;
                Box::new(tls.connect(name, stream).await.map_err(silence)?)
            }
        };
        let mut link = Self { stream, batch: Batch::default(), buffer: BytesMut::new() };
        let mut batch = Batch::default();
        if let Some(password) = &login.password {
            let user = login.username.iter().map(|user| Word::Text(user.as_bytes()));
            let words = [Word::Text(b"AUTH")].into_iter().chain(user).chain([Word::Text(password.as_bytes())]);
            batch.add(&words.collect::<Vec<_>>());
        }
        if login.database != 0 {
            batch.add(&[Word::Text(b"SELECT"), Word::Count(login.database.into())]);
        }
        batch.add(&[Word::Text(b"PING")]);
        let mut replies = link.exchange(&batch).await?;
        let ping = replies.pop();
        let refused = |reply| match reply {
            Reply::Error(text) => Some(ReadError::Refused(text)),
            _ => None,
        };
        let login = replies.into_iter().find_map(refused);
        match login.or_else(|| ping.and_then(refused).filter(|error| error.kind() == "login" || is_full(error))) {
            // Not allowed, loading, its disk full: reads may be answered all the same.
            None => Ok(link),
            Some(error) if is_full(&error) || error.kind() == "unavailable" => {
                Err(ReadError::NoAnswer(error.to_string()))
            }
            Some(error) => Err(ReadError::Login(error.to_string())),
        }
    }

    /// Whether the server has left it open, and said nothing that nobody asked for.
    pub fn is_open(&mut self) -> bool {
        self.buffer.is_empty() && self.stream.read(&mut [0]).now_or_never().is_none()
    }

    /// An empty batch, with the room of the last one.
    pub fn batch(&mut self) -> Batch {
        std::mem::take(&mut self.batch)
    }

    /// Takes a batch back that is no longer needed.
    pub fn keep(&mut self, mut batch: Batch) {
        batch.clear();
        self.batch = batch;
    }

    /// Sends commands, and waits for no reply.
    ///
    /// # Errors
    /// [`ReadError::NoAnswer`] where they can't be sent.
    pub async fn say(&mut self, batch: &Batch) -> Result<(), ReadError> {
        self.stream.write_all(batch.bytes()).await.map_err(silence)?;
        self.stream.flush().await.map_err(silence)
    }

    /// The next of what the server says by itself. Nothing is lost where it is no longer waited for.
    ///
    /// # Errors
    /// As [`Link::exchange`].
    pub async fn hear(&mut self, decoder: &mut Decoder) -> Result<Reply, ReadError> {
        loop {
            if let Some(reply) = decoder.next(&mut self.buffer)? {
                return Ok(reply);
            }
            if self.stream.read_buf(&mut self.buffer).await.map_err(silence)? == 0 {
                return Err(hung_up());
            }
        }
    }

    /// Sends commands, and returns their replies in order.
    ///
    /// # Errors
    /// [`ReadError::NoAnswer`] where not all came, [`ReadError::Shape`] where they are not in Redis's protocol.
    pub async fn exchange(&mut self, batch: &Batch) -> Result<Vec<Reply>, ReadError> {
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        // Both at once: a proxy on the way may read no further while nobody takes what it has.
        let write = async {
            writer.write_all(batch.bytes()).await.map_err(silence)?;
            writer.flush().await.map_err(silence)
        };
        let read = async {
            let mut replies = Vec::with_capacity(batch.commands());
            let (mut decoder, buffer) = (Decoder::default(), &mut self.buffer);
            while replies.len() < batch.commands() {
                match decoder.next(buffer)? {
                    Some(reply) => replies.push(reply),
                    None => {
                        if buffer.capacity() - buffer.len() < LEAST {
                            buffer.reserve(CHUNK);
                        }
                        if reader.read_buf(buffer).await.map_err(silence)? == 0 {
                            return Err(hung_up());
                        }
                    }
                }
            }
            Ok(replies)
        };
        let replies = tokio::try_join!(write, read).map(|((), replies)| replies);
        // A large job has passed through: its room is not kept.
        if self.buffer.capacity() > 2 * CHUNK {
            self.buffer = BytesMut::new();
        }
        replies
    }
}

fn hung_up() -> ReadError {
    ReadError::NoAnswer("the server has closed the connection".into())
}

/// Whether the server has no room for one more client: said in place of any reply, before it hangs up.
fn is_full(error: &ReadError) -> bool {
    error.to_string().contains("max number of clients")
}

fn silence(error: io::Error) -> ReadError {
    let of_tls = of_tls(&format!("{error:?}"));
    ReadError::NoAnswer(of_tls.map_or_else(|| error.to_string(), String::from))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// What came after the last reply would be taken for the answer to the next command.
    #[tokio::test]
    async fn a_link_that_was_told_more_than_it_asked_for_is_of_no_more_use() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::new("127.0.0.1", listener.local_addr().unwrap().port());
        let talk = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            for answer in [&b"+PONG\r\n"[..], b":1\r\n", b":2\r\n:3\r\n"] {
                assert!(socket.read(&mut [0; 64]).await.unwrap() > 0);
                socket.write_all(answer).await.unwrap();
            }
            socket
        };
        let login = Login { tls: None, username: None, password: None, database: 0 };
        let ask = async {
            let mut link = Link::open(&server, &login, Duration::from_secs(5)).await.unwrap();
            let mut batch = Batch::default();
            batch.add(&[Word::Text(b"DBSIZE")]);
            assert_eq!(link.exchange(&batch).await, Ok(vec![Reply::Int(1)]));
            assert!(link.is_open());
            assert_eq!(link.exchange(&batch).await, Ok(vec![Reply::Int(2)]));
            link
        };
        let (_socket, mut link) = tokio::join!(talk, ask);
        assert!(!link.is_open());
    }
}
