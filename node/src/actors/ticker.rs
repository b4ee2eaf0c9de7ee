//! The beat of one arbiter: one timer for all its actors.

use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient};

/// Between two ticks. Raft counts its timeouts in these.
pub const TICK: Duration = Duration::from_millis(100);

/// A tick has passed.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Tick;

/// Adds an actor to the beat; it leaves by stopping.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Follow(pub Recipient<Tick>);

/// Sends [`Tick`] to everyone who follows.
#[derive(Debug, Default)]
pub struct Ticker {
    followers: Vec<Recipient<Tick>>,
}

impl Actor for Ticker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // A stalled arbiter gets one tick when it wakes, not a burst that would depose leaders.
        ctx.run_interval(TICK, |ticker, _ctx| ticker.beat());
    }
}

impl Ticker {
    fn beat(&mut self) {
        // A full mailbox misses this tick and gets the next.
        self.followers.retain(|follower| match follower.try_send(Tick) {
            Ok(()) | Err(actix::prelude::SendError::Full(_)) => true,
            Err(actix::prelude::SendError::Closed(_)) => false,
        });
    }
}

impl Handler<Follow> for Ticker {
    type Result = ();

    fn handle(&mut self, Follow(follower): Follow, _ctx: &mut Self::Context) {
        self.followers.push(follower);
    }
}
