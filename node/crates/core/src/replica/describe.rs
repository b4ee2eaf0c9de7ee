//! Messages and writes in one line each, for logs, traces and golden scripts.
//!
//! Places in a log are written `index@term`.

use std::fmt;

use super::effects::Writes;
use super::entry::{Envelope, LogEntry, LogPosition};
use super::message::{MessageKind, PeerMessage};

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index.0, self.term.0)
    }
}

impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}→{} ", self.from, self.to)?;
        match PeerMessage::decode(&self.bytes) {
            Ok(message) => message.fmt(f),
            Err(reason) => write!(f, "not a message: {reason}"),
        }
    }
}

impl fmt::Display for PeerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PeerMessage { term, commit, index, .. } = *self;
        let place = LogPosition { index, term: self.log_term };
        match self.kind {
            MessageKind::Append => {
                write!(f, "append {term} after {place} {} commit {}", Span(&self.entries), commit.0)
            }
            MessageKind::AppendAnswer if self.reject => {
                write!(f, "append refused {term} after {} hint {}", index.0, self.reject_hint.0)
            }
            MessageKind::AppendAnswer => write!(f, "appended {term} to {}", index.0),
            MessageKind::Vote => write!(f, "vote for me {term} log {place}"),
            MessageKind::PreVote => write!(f, "would you vote for me {term} log {place}"),
            MessageKind::VoteAnswer if self.reject => write!(f, "no vote {term}"),
            MessageKind::VoteAnswer => write!(f, "vote {term}"),
            MessageKind::PreVoteAnswer if self.reject => write!(f, "would not vote {term}"),
            MessageKind::PreVoteAnswer => write!(f, "would vote {term}"),
            MessageKind::Heartbeat => write!(f, "heartbeat {term} commit {}", commit.0),
            MessageKind::HeartbeatAnswer => write!(f, "heard {term}"),
            MessageKind::Checkpoint => {
                let at = self.checkpoint.as_ref().map(|checkpoint| checkpoint.position);
                write!(f, "checkpoint {term} at {}", at.unwrap_or_default())
            }
            MessageKind::TimeoutNow => write!(f, "stand for election {term}"),
        }?;
        // Only reads put a context on heartbeats.
        let heartbeat = matches!(self.kind, MessageKind::Heartbeat | MessageKind::HeartbeatAnswer);
        if heartbeat && !self.context.is_empty() {
            write!(f, " for a read")?;
        }
        Ok(())
    }
}

impl fmt::Display for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.step)?;
        if let Some(install) = &self.install {
            write!(f, " checkpoint {}", install.position)?;
        }
        if let Some(state) = &self.hard_state {
            write!(f, " {}", state.term)?;
            if let Some(vote) = state.vote {
                write!(f, " vote {vote}")?;
            }
            write!(f, " commit {}", state.commit.0)?;
        }
        write!(f, " {}", Span(&self.entries))
    }
}

/// The places of entries that follow each other.
struct Span<'a>(&'a [LogEntry]);

impl fmt::Display for Span<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => write!(f, "no entries"),
            [one] => write!(f, "entry {}", one.position()),
            [first, .., last] => write!(f, "entries {} to {}", first.position(), last.position()),
        }
    }
}
