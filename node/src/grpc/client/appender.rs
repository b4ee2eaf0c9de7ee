//! Sends the batches of one producer, several at a time, and sees each of them through.
//!
//! Invariants: batches are sent in the order given and answered in that order; a batch is given up
//! only when the node says that it can never be taken, or when nothing has been acknowledged
//! through [`ATTEMPTS_MAX`] attempts. Until then it is sent again under its own sequence, so that a
//! batch whose answer was lost is not appended twice.

use std::collections::VecDeque;
use std::time::Duration;

use alluvium_core::ids::Sequence;
use alluvium_core::stream::Frontier;
use alluvium_proto::v1;
use alluvium_proto::v1::ingest_client::IngestClient;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::{Client, ClientError, Producer, Retry, error_from_wire, frontier_from_wire, refused};

/// Batches sent and not answered. A partition remembers this many of a producer, so that a retry of
/// any of them gets its offsets back.
pub const WINDOW_BATCHES: usize = alluvium_core::partition::REMEMBERED_MAX;

/// Attempts without any acknowledgement before giving up: with the waits between them, about a
/// minute of a node that is down or full.
pub const ATTEMPTS_MAX: u32 = 36;

/// The longest wait between attempts: how late a node that is back may be noticed.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// One batch on its way.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its number: 1 more than that of the batch before.
    pub sequence: Sequence,
    /// Where the source stands after it.
    pub position: u64,
    /// How many events.
    pub event_count: u64,
    /// An Arrow IPC stream.
    pub rows: Bytes,
}

/// A batch is durable and applied.
#[derive(Clone, Debug)]
pub struct Ack {
    /// The batch, without its rows.
    pub batch: Batch,
    /// Ask a query `at least` this to see it.
    pub frontier: Frontier,
    /// It had been there before.
    pub duplicate: bool,
}

/// Why the batches from `batch` on are not appended.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct AppendFailed {
    /// The first batch that is not acknowledged, without its rows.
    pub batch: Batch,
    /// Why.
    pub reason: ClientError,
}

/// See the module.
#[derive(Debug)]
pub struct Appender {
    client: Client,
    stream: String,
    producer: Producer,
    /// Sent and not answered, in order.
    waiting: VecDeque<Batch>,
    call: Option<Call>,
    /// Attempts since the last acknowledgement.
    attempts: u32,
}

/// One call of the wire. It takes as many requests as may wait, so that sending never blocks.
#[derive(Debug)]
struct Call {
    requests: mpsc::Sender<v1::AppendRequest>,
    answers: tonic::Streaming<v1::AppendStreamResponse>,
}

impl Appender {
    /// Begins to append to a stream as this producer.
    pub fn new(client: &Client, stream: &str, producer: Producer) -> Appender {
        Appender {
            client: client.clone(),
            stream: stream.to_owned(),
            producer,
            waiting: VecDeque::new(),
            call: None,
            attempts: 0,
        }
    }

    /// Sends a batch. Where the window is full, waits for the oldest batch first and gives its ack.
    pub async fn append(&mut self, batch: Batch) -> Result<Option<Ack>, AppendFailed> {
        let ack = if WINDOW_BATCHES <= self.waiting.len() { self.next_ack().await? } else { None };
        let request = self.request(&batch);
        self.waiting.push_back(batch);
        if let Some(call) = &self.call {
            if call.requests.try_send(request).is_err() {
                // The call is over; why, its answers say. The batch goes out with the next call.
                tracing::debug!("the append call ended early");
            }
        } else if let Err(reason) = self.open().await {
            self.wait_or_fail(reason).await?;
        }
        Ok(ack)
    }

    /// The ack of the oldest batch on its way; none when all are answered.
    pub async fn next_ack(&mut self) -> Result<Option<Ack>, AppendFailed> {
        while !self.waiting.is_empty() {
            match self.answer().await {
                Ok(answer) => {
                    self.attempts = 0;
                    let batch = self.waiting.pop_front().expect("the loop saw one");
                    let frontier = answer.frontier.map(|wire| frontier_from_wire(wire).frontier);
                    return Ok(Some(Ack {
                        batch: without_rows(&batch),
                        frontier: frontier.unwrap_or_default(),
                        duplicate: answer.duplicate,
                    }));
                }
                Err(reason) => {
                    self.call = None;
                    self.wait_or_fail(reason).await?;
                }
            }
        }
        Ok(None)
    }

    async fn answer(&mut self) -> Result<v1::AppendResponse, ClientError> {
        use v1::append_stream_response::Answer;
        if self.call.is_none() {
            self.open().await?;
        }
        let call = self.call.as_mut().expect("opened above");
        let message = call.answers.message().await;
        let message = message.map_err(|status| error_from_wire(self.client.addr(), &status))?;
        match message.map(|response| response.answer) {
            Some(Some(Answer::Ack(answer))) => Ok(answer),
            Some(Some(Answer::Failure(failure))) => {
                let after = failure.retry_after_ms.map(|ms| Duration::from_millis(ms.into()));
                let code = i32::try_from(failure.code).unwrap_or(Code::Unknown as i32);
                Err(refused(Code::from_i32(code), &failure.message, after))
            }
            Some(None) => Err(self.garbled("an answer to an append is empty")),
            None => Err(self.broken("the append call ended before all batches were answered")),
        }
    }

    /// Opens a call and sends everything that waits for an answer.
    async fn open(&mut self) -> Result<(), ClientError> {
        let (requests, queued) = mpsc::channel(WINDOW_BATCHES + 1);
        for batch in &self.waiting {
            requests.try_send(self.request(batch)).expect("the channel holds a whole window");
        }
        let mut client = IngestClient::new(self.client.channel.clone());
        let response = client.append_stream(ReceiverStream::new(queued)).await;
        let response = response.map_err(|status| self.client.error(&status))?;
        self.call = Some(Call { requests, answers: response.into_inner() });
        Ok(())
    }

    async fn wait_or_fail(&mut self, reason: ClientError) -> Result<(), AppendFailed> {
        self.call = None;
        self.attempts += 1;
        let oldest = self.waiting.front().expect("only a batch that waits can fail");
        let after = match reason.retry() {
            Retry::After(after) if self.attempts < ATTEMPTS_MAX => after,
            Retry::After(_) | Retry::Never => {
                return Err(AppendFailed { batch: without_rows(oldest), reason });
            }
        };
        tokio::time::sleep(wait(after, self.attempts)).await;
        Ok(())
    }

    fn request(&self, batch: &Batch) -> v1::AppendRequest {
        v1::AppendRequest {
            stream: self.stream.clone(),
            producer: Some(v1::ProducerStamp {
                producer_id: self.producer.id.0,
                epoch: self.producer.epoch.0,
                sequence: batch.sequence.0,
                position: batch.position,
            }),
            rows: Some(v1::append_request::Rows::ArrowIpc(batch.rows.clone())),
        }
    }

    fn broken(&self, reason: &str) -> ClientError {
        ClientError::Broken { addr: self.client.addr().to_owned(), reason: reason.to_owned() }
    }

    fn garbled(&self, reason: &str) -> ClientError {
        ClientError::Garbled { addr: self.client.addr().to_owned(), reason: reason.to_owned() }
    }
}

fn without_rows(batch: &Batch) -> Batch {
    Batch { rows: Bytes::new(), ..batch.clone() }
}

/// What the node asked for at least, doubled with each attempt that brought nothing.
fn wait(after: Duration, attempts: u32) -> Duration {
    let doubled = after.saturating_mul(1 << attempts.saturating_sub(1).min(10));
    doubled.min(WAIT_MAX).max(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_but_never_below_what_the_node_asked() {
        let ms = Duration::from_millis;
        assert_eq!(wait(ms(50), 1), ms(50));
        assert_eq!(wait(ms(50), 4), ms(400));
        assert_eq!(wait(ms(50), ATTEMPTS_MAX), WAIT_MAX);
        assert_eq!(wait(ms(5_000), 1), ms(5_000));
        let total: Duration = (1..ATTEMPTS_MAX).map(|attempts| wait(ms(100), attempts)).sum();
        assert!(ms(45_000) < total && total < ms(90_000), "{total:?}");
    }
}
