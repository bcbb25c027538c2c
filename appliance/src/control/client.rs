//! A client of the control socket, for the command line. It blocks.

use crate::config::Prefix;
use causeway_core::net::{Prefix4, Prefix6};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// How long an answer may take. A reload waits for the workers.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Octets of the largest answer that is read.
const LARGEST_ANSWER: usize = 1 << 30;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no causeway runs on the control socket {}", .0.display())]
    NotRunning(PathBuf),
    /// The socket is not for us.
    #[error("control socket {}: {error}", .path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The other side does not speak HTTP, or went away.
    #[error("control socket {}: {problem}", .path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        problem: String,
    },
    /// The other side refused.
    #[error("{}", refusal(.status, .body))]
    Refused {
        /// Why, as HTTP says it.
        status: u16,
        /// The whole answer.
        body: Value,
    },
}

fn refusal(status: &u16, body: &Value) -> String {
    body.get("error")
        .and_then(Value::as_str)
        .map_or_else(|| format!("refused with status {status}"), ToOwned::to_owned)
}

/// A client of one control socket. Each call makes a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of this socket. Connects only when asked something.
    #[must_use]
    pub const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks for something.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn get(&self, path_and_query: &str) -> Result<Value, ClientError> {
        self.call(Method::GET, path_and_query, None)
    }

    /// Orders something.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn post(&self, path: &str) -> Result<Value, ClientError> {
        self.call(Method::POST, path, None)
    }

    /// Sets something.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn put(&self, path: &str, value: &Value) -> Result<Value, ClientError> {
        self.call(Method::PUT, path, Some(value))
    }

    /// Removes something.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn delete(&self, path: &str) -> Result<Value, ClientError> {
        self.call(Method::DELETE, path, None)
    }

    fn broken(&self, problem: impl std::fmt::Display) -> ClientError {
        ClientError::Broken { path: self.socket.clone(), problem: problem.to_string() }
    }

    fn call(
        &self,
        method: Method,
        path_and_query: &str,
        value: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| self.broken(e))?;
        runtime.block_on(async {
            tokio::time::timeout(TIMEOUT, self.exchange(method, path_and_query, value))
                .await
                .unwrap_or_else(|_| Err(self.broken(format!("no answer within {} s", TIMEOUT.as_secs()))))
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path_and_query: &str,
        value: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning(self.socket.clone())
            }
            _ => ClientError::Socket { path: self.socket.clone(), error },
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(e))?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path_and_query)
            .header(hyper::header::HOST, "causeway")
            .body(Full::<Bytes>::from(value.map(Value::to_string).unwrap_or_default()))
            .map_err(|e| self.broken(e))?;
        let response = sender.send_request(request).await.map_err(|e| self.broken(e))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST_ANSWER)
            .collect()
            .await
            .map_err(|e| self.broken(e))?
            .to_bytes();
        driver.abort();
        let body: Value = serde_json::from_slice(&body)
            .map_err(|e| self.broken(format!("the answer (status {status}) is no JSON: {e}")))?;
        if status == StatusCode::OK {
            Ok(body)
        } else {
            Err(ClientError::Refused { status: status.as_u16(), body })
        }
    }
}

/// An IPv6 prefix, or an address as the prefix of itself.
///
/// # Errors
/// What is allowed, in words.
pub fn prefix6(text: &str) -> Result<Prefix6, String> {
    if let Some(p) = text.parse::<Ipv6Addr>().ok().and_then(|a| Prefix6::new(a, 128)) {
        return Ok(p);
    }
    text.parse().map_err(|_| format!("`{text}` is no IPv6 address or prefix"))
}

/// An IPv4 prefix, or an address as the prefix of itself.
///
/// # Errors
/// What is allowed, in words.
pub fn prefix4(text: &str) -> Result<Prefix4, String> {
    if let Some(p) = text.parse::<Ipv4Addr>().ok().and_then(|a| Prefix4::new(a, 32)) {
        return Ok(p);
    }
    text.parse().map_err(|_| format!("`{text}` is no IPv4 address or prefix"))
}

/// A prefix of either family, or an address as the prefix of itself.
///
/// # Errors
/// What is allowed, in words.
pub fn prefix(text: &str) -> Result<Prefix, String> {
    let six = text.contains(':') || matches!(text.parse(), Ok(IpAddr::V6(_)));
    let parsed = if six { prefix6(text).map(Prefix::V6) } else { prefix4(text).map(Prefix::V4) };
    parsed.map_err(|_| format!("`{text}` is no address or prefix"))
}
