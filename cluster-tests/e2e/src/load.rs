//! Producers that go on through crashes: each keeps its sequence and sends a batch again until it
//! is acknowledged.
//!
//! Invariant: sequences `[first_unacked, next)` were sent and not acknowledged; a stamped producer
//! never sends anything above them before all of them were sent again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use alluvium_proto::v1;
use anyhow::Result;
use tokio::sync::{Semaphore, watch};
use tonic::{Code, Status};

use crate::client::{self, Client};
use crate::history::History;
use crate::ledger::Ledger;
use crate::rows;

/// What producers, reader and killer share.
#[derive(Debug)]
pub struct Shared {
    ledger: Mutex<Ledger>,
    // Set before the kill: from then on a broken connection is expected.
    killing: AtomicBool,
    // Set at the end of a round: see `Until::Told`.
    ending: AtomicBool,
    acked_rows: watch::Sender<u64>,
    // Calls that nobody answered in time.
    silences: AtomicU64,
    // Rows that may be sent by now; without it, any number.
    allowed: Option<Semaphore>,
    begun: Instant,
}

/// How a producer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One `Append` at a time.
    Unary,
    /// One `AppendStream`, this many batches unanswered. At most 8: a node remembers no more.
    Pipelined {
        /// Batches in flight.
        window: u64,
    },
    /// `Append` without a stamp: what fails is given up, because a retry would be another batch.
    Unstamped,
}

/// When a run ends while the node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Never: only a broken connection ends it.
    Killed,
    /// When everything sent before is acknowledged.
    Settled,
    /// When [`Shared::set_ending`] says so: nothing new is sent from then on, and what was sent
    /// before is acknowledged.
    Told,
}

impl Until {
    fn is_reached(self, shared: &Shared) -> bool {
        match self {
            Until::Killed => false,
            Until::Settled => true,
            Until::Told => shared.is_ending(),
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// What it was told to send is acknowledged.
    Settled,
    /// The connection broke as expected: there may be more to send.
    Lost,
    /// The node answered what it must not, which is a violation by now.
    Wrong,
}

/// One producer of one stream.
#[derive(Debug)]
pub struct Producer {
    number: u32,
    mode: Mode,
    name: String,
    stream: String,
    stamp: Option<v1::ProducerStamp>,
    // Whether `stamp` is the latest life: an OpenProducer without an answer may have begun another.
    is_open: bool,
    first_unacked: u64,
    next: u64,
}

/// Why sending stopped.
enum Stopped {
    /// The connection broke.
    Lost,
    /// The node asked to come again.
    Busy,
    /// The node answered what it must not.
    Wrong(String),
}

impl Shared {
    /// Nothing sent yet.
    pub fn new() -> Arc<Shared> {
        Arc::new(Shared::with(None))
    }

    /// Nothing sent yet, and nothing will be until [`Shared::allow`] says so.
    pub fn paced() -> Arc<Shared> {
        Arc::new(Shared::with(Some(Semaphore::new(0))))
    }

    fn with(allowed: Option<Semaphore>) -> Shared {
        let (acked_rows, _) = watch::channel(0);
        let (killing, ending) = (AtomicBool::new(false), AtomicBool::new(false));
        let (ledger, silences) = (Mutex::default(), AtomicU64::new(0));
        let begun = Instant::now();
        Shared { ledger, killing, ending, acked_rows, silences, allowed, begun }
    }

    /// Lets so many more rows be sent, unless `waiting_max` are allowed and not sent: what was
    /// missed while the node was down is not made up for.
    pub fn allow(&self, rows: usize, waiting_max: usize) {
        if let Some(allowed) = &self.allowed
            && allowed.available_permits() < waiting_max
        {
            allowed.add_permits(rows);
        }
    }

    /// Waits until a batch of so many rows may be sent.
    async fn may_send(&self, rows: u32) {
        if let Some(allowed) = &self.allowed {
            let permits = allowed.acquire_many(rows).await;
            permits.expect("the semaphore is never closed").forget();
        }
    }

    /// The ledger. Held for moments only, never across an await.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("nobody panics while holding the ledger")
    }

    /// From now on the order of everything is kept: nodes of a cluster are being loaded.
    pub fn begin_history(&self) {
        let mut ledger = self.ledger();
        ledger.is_forwarded = true;
        ledger.history = Some(History::default());
    }

    /// Says whether a broken connection is expected from now on.
    pub fn set_killing(&self, killing: bool) {
        self.killing.store(killing, Ordering::SeqCst);
    }

    /// Whether a broken connection is expected now.
    pub fn is_killing(&self) -> bool {
        self.killing.load(Ordering::SeqCst)
    }

    /// Says whether a run [`Until::Told`] is to end.
    pub fn set_ending(&self, ending: bool) {
        self.ending.store(ending, Ordering::SeqCst);
    }

    /// Whether a run [`Until::Told`] is to end.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Notified with the number of acknowledged rows.
    pub fn watch_acked_rows(&self) -> watch::Receiver<u64> {
        self.acked_rows.subscribe()
    }

    fn acked(&self, id: (u32, u64), ack: &v1::AppendResponse) {
        let mut ledger = self.ledger();
        ledger.acked(id, ack);
        let rows = ledger.acked.rows;
        drop(ledger);
        self.acked_rows.send_replace(rows);
    }

    /// Since the load began, for people.
    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// How many calls nobody answered in time.
    pub fn silences(&self) -> u64 {
        self.silences.load(Ordering::SeqCst)
    }

    /// Enters an answer that breaks a promise.
    pub fn violation(&self, text: String) {
        let text = format!("{text}, {:.1} s after the begin", self.seconds());
        self.ledger().violations.push(text);
    }

    /// Enters a failed call as a violation, unless the node was being killed.
    pub fn unless_killed(&self, status: &Status, what: &str) -> Ended {
        if let Stopped::Wrong(text) = self.stopped(status) {
            self.violation(format!("{what} fails: {text}"));
            return Ended::Wrong;
        }
        Ended::Lost
    }

    fn stopped(&self, status: &Status) -> Stopped {
        let expected = self.is_killing();
        if client::is_silence(status) {
            self.silences.fetch_add(1, Ordering::SeqCst);
        }
        match status.code() {
            Code::ResourceExhausted => Stopped::Busy,
            _ if client::is_lost(status) && expected => Stopped::Lost,
            code => Stopped::Wrong(format!("{code:?}: {}", status.message())),
        }
    }
}

impl Producer {
    /// A producer that has sent nothing to this stream yet.
    pub fn new(number: u32, mode: Mode, stream: &str) -> Producer {
        let name = format!("chaos-{number}");
        let stream = stream.to_owned();
        Producer {
            number,
            mode,
            name,
            stream,
            stamp: None,
            is_open: false,
            first_unacked: 0,
            next: 0,
        }
    }

    /// Which one it is: the `producer` column of its rows.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Takes over its own name, as a restarted client does, and goes on where the node says.
    pub async fn open(&mut self, client: &Client, shared: &Shared) -> Result<(), Status> {
        if self.mode == Mode::Unstamped {
            return Ok(());
        }
        self.is_open = false;
        let opened = client.open_producer(&self.name, &self.stream).await?;
        self.is_open = true;
        for violation in self.check_opened(&opened) {
            shared.violation(format!("producer {}: {violation}", self.number));
        }
        for sequence in self.first_unacked..opened.next_sequence {
            shared.ledger().held((self.number, sequence));
        }
        self.first_unacked = opened.next_sequence.max(self.first_unacked);
        self.next = self.next.max(self.first_unacked);
        self.stamp = Some(v1::ProducerStamp {
            producer_id: opened.producer_id,
            epoch: opened.epoch,
            sequence: 0,
            position: 0,
        });
        Ok(())
    }

    fn check_opened(&self, opened: &v1::OpenProducerResponse) -> Vec<String> {
        let mut violations = Vec::new();
        let sequence = opened.next_sequence;
        if sequence < self.first_unacked || self.next < sequence {
            let sent = self.first_unacked..self.next;
            violations.push(format!("told to go on at {sequence}, in flight are {sent:?}"));
        }
        let position_expected = sequence.checked_sub(1).map_or(0, position);
        if opened.position != position_expected {
            let found = opened.position;
            violations.push(format!("position {found} before sequence {sequence}"));
        }
        if opened.next_position.is_some_and(|found| found != position(sequence)) {
            violations.push(format!("{:?} is said of {sequence}", opened.next_position));
        }
        if opened.next_position.is_some() && sequence == self.next {
            violations.push(format!("sequence {sequence} is held in part but was never sent"));
        }
        if let Some(stamp) = &self.stamp {
            if opened.epoch <= stamp.epoch {
                violations.push(format!("epoch {} follows {}", opened.epoch, stamp.epoch));
            }
            if opened.producer_id != stamp.producer_id {
                violations.push("the name has another id now".to_owned());
            }
        }
        violations
    }

    /// Sends until the connection breaks or `until` holds.
    pub async fn run(&mut self, client: &Client, shared: &Shared, until: Until) -> Ended {
        if !self.is_open
            && self.mode != Mode::Unstamped
            && let Err(status) = self.open(client, shared).await
        {
            return shared.unless_killed(&status, "OpenProducer");
        }
        let mut retry = tokio::time::interval(std::time::Duration::from_millis(5));
        loop {
            let stopped = match self.mode {
                Mode::Unary => self.run_unary(client, shared, until).await,
                Mode::Pipelined { window } => {
                    self.run_pipelined(client, shared, until, window).await
                }
                Mode::Unstamped => self.run_unstamped(client, shared, until).await,
            };
            match stopped {
                Ok(()) => return Ended::Settled,
                Err(Stopped::Lost) => return Ended::Lost,
                Err(Stopped::Busy) => {
                    retry.tick().await;
                }
                Err(Stopped::Wrong(text)) => {
                    shared.violation(format!("producer {}: {text}", self.number));
                    return Ended::Wrong;
                }
            }
        }
    }

    async fn run_unary(
        &mut self,
        client: &Client,
        shared: &Shared,
        until: Until,
    ) -> Result<(), Stopped> {
        loop {
            if self.first_unacked == self.next {
                if until.is_reached(shared) {
                    return Ok(());
                }
                self.next += 1;
            }
            let sequence = self.first_unacked;
            shared.may_send(rows::batch_rows(self.number, sequence)).await;
            let request = self.request(sequence);
            shared.ledger().sending((self.number, sequence));
            let answer = client.append(request).await;
            let ack = answer.map_err(|status| shared.stopped(&status))?;
            shared.acked((self.number, sequence), &ack);
            self.first_unacked += 1;
        }
    }

    async fn run_pipelined(
        &mut self,
        client: &Client,
        shared: &Shared,
        until: Until,
        window: u64,
    ) -> Result<(), Stopped> {
        let stopped = |status: Status| shared.stopped(&status);
        let room = usize::try_from(window).expect("a window is small");
        let mut stream = client.append_stream(room).await.map_err(stopped)?;
        // Of [first_unacked, next), what went out on this connection.
        let mut sent_end = self.first_unacked;
        loop {
            while sent_end < self.first_unacked + window {
                if sent_end == self.next {
                    if until.is_reached(shared) {
                        break;
                    }
                    self.next += 1;
                }
                shared.may_send(rows::batch_rows(self.number, sent_end)).await;
                shared.ledger().sending((self.number, sent_end));
                if stream.requests.send(self.request(sent_end)).await.is_err() {
                    // The call ended: its answers say why.
                    break;
                }
                sent_end += 1;
            }
            if self.first_unacked == self.next {
                return Ok(());
            }
            let answer = stream.answer().await.map_err(stopped)?;
            let ended = || Status::unavailable("the node ended the call");
            match answer.and_then(|response| response.answer) {
                Some(v1::append_stream_response::Answer::Ack(ack)) => {
                    shared.acked((self.number, self.first_unacked), &ack);
                    self.first_unacked += 1;
                }
                Some(v1::append_stream_response::Answer::Failure(failure)) => {
                    let code = Code::from_i32(i32::try_from(failure.code).unwrap_or(2));
                    return Err(stopped(Status::new(code, failure.message)));
                }
                None => return Err(stopped(ended())),
            }
        }
    }

    async fn run_unstamped(
        &mut self,
        client: &Client,
        shared: &Shared,
        until: Until,
    ) -> Result<(), Stopped> {
        // What failed was given up: nothing is left to settle.
        while !until.is_reached(shared) {
            let sequence = self.next;
            self.next += 1;
            self.first_unacked = self.next;
            shared.may_send(rows::batch_rows(self.number, sequence)).await;
            shared.ledger().sending((self.number, sequence));
            let answer = client.append(self.request(sequence)).await;
            let ack = answer.map_err(|status| shared.stopped(&status))?;
            shared.acked((self.number, sequence), &ack);
        }
        Ok(())
    }

    fn request(&self, sequence: u64) -> v1::AppendRequest {
        let stamp = self.stamp.as_ref().map(|stamp| v1::ProducerStamp {
            sequence,
            position: position(sequence),
            ..*stamp
        });
        let batch = rows::batch(self.number, sequence);
        client::arrow_request(&self.stream, stamp, &batch).expect("audited rows encode")
    }
}

/// What this batch says of its source: checked when the producer is opened again.
fn position(sequence: u64) -> u64 {
    (sequence + 1) * 10
}
