//! Proposals waiting to be agreed.
//!
//! A proposal is known by the index and term its entry got. Another entry at that index, or a
//! change of role or term, means it may never be agreed here: the caller is told it is lost.

use std::collections::VecDeque;

use super::effects::Reply;
use super::entry::LogPosition;
use crate::ids::RequestId;

/// Waiting proposals, in log order.
#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: VecDeque<(LogPosition, RequestId)>,
}

impl Pending {
    /// Remembers who waits for the entry at `position`.
    pub(super) fn push(&mut self, position: LogPosition, request: RequestId) {
        self.waiting.push_back((position, request));
    }

    /// Who waits for the entry at `position`. Whoever waited for another entry up to that index is
    /// told that it is lost.
    pub(super) fn take(
        &mut self,
        position: LogPosition,
        replies: &mut Vec<Reply>,
    ) -> Option<RequestId> {
        while let Some(&(waited, request)) = self.waiting.front() {
            if position.index < waited.index {
                return None;
            }
            self.waiting.pop_front();
            if waited == position {
                return Some(request);
            }
            replies.push(Reply::Lost { request });
        }
        None
    }

    /// Tells everyone that it is lost.
    pub(super) fn lose_all(&mut self, replies: &mut Vec<Reply>) {
        replies.extend(self.waiting.drain(..).map(|(_, request)| Reply::Lost { request }));
    }
}
