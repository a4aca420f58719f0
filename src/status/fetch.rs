//! Asks a running node for its [`Status`]: the other end of [`serve`](super::serve()).

use std::{fmt, io, str::FromStr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::Status;

/// Connecting, asking and reading together take at most this.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of an answer: 256 peers and all counters are some 60 KB.
const MAX_ANSWER: usize = 4 << 20;

/// The port of a status server that is named without one: go-ethereum's metrics have it.
pub const DEFAULT_PORT: u16 = 6060;

/// Where a status is served: `http://HOST:PORT[/PATH]`, `HOST:PORT` or `HOST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    path: String,
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANT: &str = "want http://HOST:PORT or HOST:PORT, such as 127.0.0.1:6060";
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = url.parse().map_err(|_| WANT)?;
        if uri.scheme_str() != Some("http") {
            return Err("only http:// is served");
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(WANT)?;
        let path = match uri.path() {
            "" | "/" => "/status",
            path => path,
        };
        // A port that is none is an error, not the default one.
        let port = match uri.authority().map(|authority| authority.as_str().ends_with(host)) {
            Some(true) => DEFAULT_PORT,
            _ => uri.port_u16().ok_or(WANT)?,
        };
        Ok(Endpoint { host: host.trim_matches(['[', ']']).to_owned(), port, path: path.to_owned() })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "http://[{}]:{}{}", self.host, self.port, self.path),
            false => write!(f, "http://{}:{}{}", self.host, self.port, self.path),
        }
    }
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Nobody serves a status there.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// It took too long.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Timeout,
    /// What answers does not speak HTTP.
    #[error("not an HTTP answer: {0}")]
    Http(#[from] hyper::Error),
    /// The answer is an error.
    #[error("answered {0}")]
    Refused(StatusCode),
    /// The answer is cut short, or larger than any status.
    #[error("an answer that cannot be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The answer is no status.
    #[error("the answer is not a status of kadwire: {0}")]
    NotAStatus(#[from] serde_json::Error),
}

/// The status that is served at `endpoint`.
///
/// # Errors
/// See [`FetchError`].
pub async fn fetch(endpoint: &Endpoint) -> Result<Status, FetchError> {
    timeout(PATIENCE, ask(endpoint)).await.map_err(|_| FetchError::Timeout)?
}

async fn ask(endpoint: &Endpoint) -> Result<Status, FetchError> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(FetchError::Connect)?;
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(&endpoint.path).header(HOST, format!("{}:{}", endpoint.host, endpoint.port));
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| FetchError::Body(error.into()))?;
    let answered = async {
        let response = requests.send_request(request).await?;
        match response.status() {
            StatusCode::OK => {}
            other => return Err(FetchError::Refused(other)),
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(FetchError::Body)?;
        Ok(serde_json::from_slice(&body.to_bytes())?)
    };
    tokio::pin!(connection, answered);
    tokio::select! {
        biased;
        answered = &mut answered => answered,
        // The connection may end before its last bytes are taken.
        _ = &mut connection => answered.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_what_is_usual() {
        for (text, full) in [
            ("127.0.0.1:6060", "http://127.0.0.1:6060/status"),
            ("127.0.0.1", "http://127.0.0.1:6060/status"),
            ("node.example.org:80", "http://node.example.org:80/status"),
            ("http://[::1]:7/", "http://[::1]:7/status"),
            ("[::1]", "http://[::1]:6060/status"),
            ("http://10.0.0.1:6060/nodes/3/status", "http://10.0.0.1:6060/nodes/3/status"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), full, "{text}");
        }
        for bad in ["", ":6060", "https://x:1", "x:99999", "x:port", "a b", "http://", "enode://00@1.2.3.4:5"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_no_status_is_an_error() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let answers: [&[u8]; 4] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n77",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
            b"HTTP/1.1 404 Not Found\r\n\r\n",
            b"220 smtp.example.org ESMTP\r\n",
        ];
        for answer in answers {
            let listener = tokio::net::TcpListener::bind("127.135.1.2:0").await.unwrap();
            let at: Endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
            let server = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer).await;
            };
            let (fetched, ()) = tokio::join!(fetch(&at), server);
            let error = fetched.unwrap_err();
            let expected = match answer {
                b"HTTP/1.1 404 Not Found\r\n\r\n" => matches!(error, FetchError::Refused(StatusCode::NOT_FOUND)),
                other if other.ends_with(b"77") => matches!(error, FetchError::NotAStatus(_)),
                other if other.ends_with(b"{") => matches!(error, FetchError::Body(_)),
                _ => matches!(error, FetchError::Http(_)),
            };
            assert!(expected, "{}: {error:?}", String::from_utf8_lossy(answer));
        }
    }
}
