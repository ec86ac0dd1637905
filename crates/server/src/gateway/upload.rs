//! Bodies of requests that go to a function as they come, rather than whole in its event.
//!
//! The connection reads on when the function has taken what was there: what a client sends ahead stays in its socket.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use model::stream::{BodyCut, BodySource, BodyStream};
use tokio::time::{Sleep, sleep};

/// A body that announces no more, in bytes, comes whole: it costs one copy, and the call can be repeated.
const WHOLE_BYTES: u64 = 256 * 1024;

/// Whether a body may be too long to wait for.
pub(super) fn is_long<B: Body>(body: &B) -> bool {
    body.size_hint().exact().is_none_or(|bytes| bytes > WHOLE_BYTES)
}

/// The body as it comes; cut off once its client has sent nothing for `idle` while somebody waited.
pub(super) fn stream<B>(body: B, idle: Duration) -> BodyStream
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    BodyStream::new(body.size_hint().exact(), Box::new(Upload { body, idle, waiting: None }))
}

struct Upload<B> {
    body: B,
    idle: Duration,
    /// While the client is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<B: Body<Data = Bytes> + Send + Unpin> BodySource for Upload<B> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyCut>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else { break };
            self.waiting = None;
            match frame.map(|frame| frame.map(hyper::body::Frame::into_data)) {
                None => return Poll::Ready(None),
                Some(Err(_)) => return Poll::Ready(Some(Err(BodyCut))),
                Some(Ok(Ok(data))) if !data.is_empty() => return Poll::Ready(Some(Ok(data))),
                // Trailers, of which no function hears.
                Some(Ok(_)) => {}
            }
        }
        let idle = self.idle;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(idle)));
        waiting.as_mut().poll(cx).map(|()| Some(Err(BodyCut)))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hyper::body::Frame;
    use tokio::sync::mpsc;

    use super::*;

    const IDLE: Duration = Duration::from_secs(30);

    struct Fed(mpsc::Receiver<Bytes>);

    impl Body for Fed {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_for_too_long_is_cut_off() {
        let (sender, body) = mpsc::channel(1);
        let body = Fed(body);
        assert!(is_long(&body));
        let mut pieces = stream(body, IDLE).take().unwrap();
        let begun = tokio::time::Instant::now();
        let slow = async {
            for _ in 0..3 {
                sleep(IDLE - Duration::from_secs(1)).await;
                sender.send(Bytes::from_static(b"a")).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let read = async {
            let mut count = 0;
            loop {
                match poll_fn(|cx| pieces.poll_piece(cx)).await {
                    Some(Ok(_)) => count += 1,
                    end => return (count, end),
                }
            }
        };
        let (count, end) = tokio::select! { read = read => read, () = slow => unreachable!() };
        assert_eq!((count, end), (3, Some(Err(BodyCut))));
        assert_eq!(begun.elapsed(), 3 * (IDLE - Duration::from_secs(1)) + IDLE);
    }
}
