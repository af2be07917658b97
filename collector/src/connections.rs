//! HTTP connections, within bounds: so many at once, and none that dawdles over its headers or over what it is answered; for the engine's
//! front and for the API.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use patient::Patient;

mod patient;

/// The pause behind a failed accept, which says that the process or the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one listener lets in.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at once.
    pub connections_max: usize,
    /// How long a client may take to say what it wants, and may stay when it wants nothing.
    pub header_wait: Duration,
    /// How long a client may take nothing of what it is answered.
    pub write_wait: Duration,
}

/// Who is told of the connections that do not come about.
pub trait Watch: Send + Sync + 'static {
    /// One was over the bound.
    fn connection_refused(&self);
    /// One could not be accepted.
    fn accept_failed(&self, error: &io::Error);
}

/// Serves a router until `stopped` turns true; requests that run are answered.
///
/// A connection over the bound is closed at once, and counted: one that waited would keep its client in the dark.
pub async fn serve(listener: TcpListener, router: Router, bounds: Bounds, watch: Arc<impl Watch>, mut stopped: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(bounds.connections_max.min(Semaphore::MAX_PERMITS)));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.header_wait);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // An error means that the sender is gone, which is a stop as well.
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => match Arc::clone(&room).try_acquire_owned() {
                Ok(place) => {
                    let connection = graceful.watch(connection(&http, Patient::new(stream, bounds.write_wait), peer, router.clone()));
                    tokio::spawn(async move {
                        // A client that breaks off, or says what is no HTTP, has ended its own connection and nothing else.
                        if let Err(error) = connection.await {
                            tracing::trace!(%peer, %error, "a connection ended");
                        }
                        drop(place);
                    });
                }
                Err(_) => watch.connection_refused(),
            },
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                watch.accept_failed(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

fn connection(
    http: &http1::Builder,
    stream: Patient<TcpStream>,
    peer: SocketAddr,
    router: Router,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + use<> {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = router.call(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    http.serve_connection(TokioIo::new(stream), service)
}

/// Whether the client was gone before it was let in.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const WAIT: Duration = Duration::from_secs(20);

    #[derive(Default)]
    struct Refused(AtomicUsize);

    impl Watch for Refused {
        fn connection_refused(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn accept_failed(&self, error: &io::Error) {
            panic!("{error}");
        }
    }

    async fn served(bounds: Bounds) -> (SocketAddr, Arc<Refused>, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, refused, (stop, stopped)) = (listener.local_addr().unwrap(), Arc::new(Refused::default()), watch::channel(false));
        let endless = || async { axum::body::Body::from_stream(Endless) };
        let router = Router::new()
            .route("/endless", axum::routing::get(endless))
            .route("/", axum::routing::get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }));
        tokio::spawn(serve(listener, router, bounds, Arc::clone(&refused), stopped));
        (address, refused, stop)
    }

    /// Sends a text and reads until the server closes the connection.
    async fn said(stream: &mut TcpStream, text: &str) -> String {
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A server that closes before it has read everything resets.
        let read = tokio::time::timeout(WAIT, stream.read_to_string(&mut answer)).await;
        drop(read.expect("the connection ends"));
        answer
    }

    /// Asks until there is room, and what is answered then.
    async fn answered(address: SocketAddr) -> String {
        let answered = async {
            loop {
                let mut stream = TcpStream::connect(address).await.unwrap();
                // What is closed at once may be reset while the request is written.
                let mut answer = String::new();
                let sent = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
                if sent.is_ok() && stream.read_to_string(&mut answer).await.is_ok() && !answer.is_empty() {
                    break answer;
                }
            }
        };
        tokio::time::timeout(WAIT, answered).await.expect("there is room again")
    }

    #[tokio::test]
    async fn a_client_that_dawdles_over_its_headers_is_let_go() {
        let bounds = Bounds { connections_max: 8, header_wait: Duration::from_millis(50), write_wait: WAIT };
        let (address, _refused, _stop) = served(bounds).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(said(&mut silent, "").await, "");
        let mut slow = TcpStream::connect(address).await.unwrap();
        assert!(!said(&mut slow, "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await.contains("200 OK"));
    }

    /// A body without an end.
    struct Endless;

    impl futures_core::Stream for Endless {
        type Item = Result<bytes::Bytes, Infallible>;

        fn poll_next(self: std::pin::Pin<&mut Self>, _context: &mut std::task::Context<'_>) -> std::task::Poll<Option<Self::Item>> {
            std::task::Poll::Ready(Some(Ok(bytes::Bytes::from_static(&[b'x'; 65_536]))))
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_of_its_answer_is_let_go() {
        // The only place is that of the client which reads nothing.
        let bounds = Bounds { connections_max: 1, header_wait: WAIT, write_wait: Duration::from_millis(50) };
        let (address, _refused, _stop) = served(bounds).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut octet = [0];
        slow.read_exact(&mut octet).await.unwrap();
        assert!(answered(address).await.starts_with("HTTP/1.1 200 OK"));
        // What the kernel held for it, and no end: the answer was not whole.
        let mut rest = Vec::new();
        drop(slow.read_to_end(&mut rest).await);
        assert!(!rest.ends_with(b"0\r\n\r\n"));
    }

    #[tokio::test]
    async fn a_connection_over_the_bound_is_closed_and_counted_and_there_is_room_again_when_one_has_ended() {
        let (address, refused, stop) = served(Bounds { connections_max: 1, header_wait: WAIT, write_wait: WAIT }).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut octet = [0];
        first.read_exact(&mut octet).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        assert_eq!(second.read(&mut octet).await.unwrap_or(0), 0, "closed without a word");
        assert_eq!(refused.0.load(Ordering::Relaxed), 1);
        drop(first);
        let answer = answered(address).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("127.0.0.1:"), "{answer}");
        stop.send_replace(true);
    }
}
