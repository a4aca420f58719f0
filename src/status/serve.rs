//! The driver that answers who asks over HTTP: `GET /status` (JSON), `GET /metrics` (Prometheus text; also where go-ethereum has it).
//!
//! It only reads. Meant for loopback or a network of the operator's own: it knows no passwords. What a caller can make it spend is bounded:
//! connections at once, the time of each, the size of the request's head; a body is never read.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{Source, metrics};

/// Callers at once: one scrape each fifteen seconds and a curious operator need two. Others wait in the system's queue.
const MAX_CALLERS: usize = 16;

/// A request's head must be there by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// From the connection to the end of the answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of a request's head, and header lines in it.
const MAX_HEAD: usize = 8 << 10;
const MAX_HEADERS: usize = 64;

/// After an error of `accept` (no file descriptors, say) others are accepted again after this time (go-ethereum's listener: 200 ms).
const RETRY: Duration = Duration::from_millis(200);

/// The status is being served. Dropping it ends that at once.
#[derive(Debug)]
pub struct Serving {
    local: SocketAddr,
    task: JoinHandle<()>,
}

impl Serving {
    /// Where, with the real port.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves the status of `source` at `address`; port 0 takes a free one. Must be called within a tokio runtime.
///
/// # Errors
/// Those of listening on TCP.
pub async fn serve(address: SocketAddr, source: impl Source) -> io::Result<Serving> {
    let listener = TcpListener::bind(address).await?;
    let local = listener.local_addr()?;
    if !kadwire_discovery::is_lan(local.ip()) {
        warn!(%local, "the status is for everybody to read: who is connected, and where");
    }
    info!(%local, "serving the status: /status and /metrics");
    Ok(Serving { local, task: tokio::spawn(accept(listener, source)) })
}

async fn accept(listener: TcpListener, source: impl Source) {
    let room = Arc::new(Semaphore::new(MAX_CALLERS));
    // They end with this task.
    let mut calls = JoinSet::new();
    loop {
        while calls.try_join_next().is_some() {}
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, caller)) => {
                let source = source.clone();
                calls.spawn(async move {
                    if timeout(CALL_TIMEOUT, call(stream, source)).await.is_err() {
                        debug!(%caller, "a caller that was too slow");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept who asks for the status");
                sleep(RETRY).await;
            }
        }
    }
}

/// One connection, one request.
async fn call(stream: TcpStream, source: impl Source) {
    let service = service_fn(move |request| {
        let source = source.clone();
        async move { Ok::<_, Infallible>(answer(&request, source).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "a request that was none");
    }
}

async fn answer(request: &Request<Incoming>, source: impl Source) -> Response<Full<Bytes>> {
    let status = match *request.method() {
        Method::GET | Method::HEAD => source.status(),
        _ => {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned());
            refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
    };
    match request.uri().path() {
        "/status" => match serde_json::to_string(&status.await) {
            Ok(json) => text(StatusCode::OK, "application/json", json + "\n"),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error}\n")),
        },
        "/metrics" | "/debug/metrics/prometheus" => {
            text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics(&status.await))
        }
        _ => text(StatusCode::NOT_FOUND, "text/plain", "there is /status and /metrics\n".to_owned()),
    }
}

fn text(code: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::status::{Role, Status, Wire, fetch};

    #[derive(Clone)]
    struct Fixed;

    impl Source for Fixed {
        async fn status(&self) -> Status {
            let wire = Wire { name: "tendermint".to_owned(), outbound: 2, ..Wire::default() };
            Status { role: Role::Node, wires: vec![wire], ..Status::default() }
        }
    }

    async fn serving() -> Serving {
        serve("127.135.1.1:0".parse().unwrap(), Fixed).await.unwrap()
    }

    /// What comes back for these bytes, until the stream ends.
    async fn say(to: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(to).await.unwrap();
        // It may hang up before it has read everything.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn status_and_metrics_are_there_and_nothing_else() {
        let serving = serving().await;
        let local = serving.local_address();
        let status = fetch::fetch(&local.to_string().parse().unwrap()).await.unwrap();
        assert_eq!(status, Fixed.status().await);
        for (request, first, last) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200", "p2p_peers{wire=\"tendermint\"} 2\n"),
            ("GET /debug/metrics/prometheus HTTP/1.0\r\n\r\n", "HTTP/1.0 200", "p2p_peers{wire=\"tendermint\"} 2\n"),
            ("GET /status HTTP/1.0\r\n\r\n", "HTTP/1.0 200", "\"outbound\":2"),
            ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 404", "/status"),
            ("POST /status HTTP/1.0\r\nContent-Length: 4\r\n\r\nquit", "HTTP/1.0 405", "only GET"),
        ] {
            let answer = say(local, request.as_bytes()).await;
            assert!(answer.starts_with(first) && answer.contains(last), "{request}: {answer}");
        }
    }

    /// The clock is paused: it jumps to the time-outs as soon as nothing else is to be done.
    #[tokio::test(start_paused = true)]
    async fn bad_requests_are_errors_and_heads_are_bounded() {
        let serving = serving().await;
        let many = format!("GET /status HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(MAX_HEADERS + 1));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(MAX_HEAD));
        let endless = format!("GET /status HTTP/1.1\r\nX: {}", "y".repeat(4 * MAX_HEAD));
        for request in
            [many.as_bytes(), long.as_bytes(), endless.as_bytes(), b"\x16\x03\x01\0\xff\r\n\r\n", b"\r\n\r\n\r\n"]
        {
            let answer = say(serving.local_address(), request).await;
            assert!(!answer.contains("200 OK"), "{answer}");
        }
        assert!(say(serving.local_address(), b"GET /status HTTP/1.0\r\n\r\n").await.contains("200 OK"));
    }

    #[tokio::test(start_paused = true)]
    async fn silent_callers_are_cut_and_do_not_keep_others_out() {
        let serving = serving().await;
        let mut silent = Vec::new();
        for _ in 0..MAX_CALLERS {
            let mut stream = TcpStream::connect(serving.local_address()).await.unwrap();
            stream.write_all(b"GET /sta").await.unwrap();
            silent.push(stream);
        }
        assert!(say(serving.local_address(), b"GET /status HTTP/1.0\r\n\r\n").await.contains("200 OK"));
        for mut stream in silent {
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            assert!(!String::from_utf8(answer).unwrap().contains("200 OK"));
        }
    }
}
