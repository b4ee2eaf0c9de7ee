//! Asks where streams end, once for all who ask at the same time.
//!
//! Who asks must learn of everything acknowledged before, so an answer counts only for those who
//! asked before it was looked for. While one question is on its way, those who come wait together
//! for the next.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use alluvium_core::ids::StreamId;
use alluvium_core::stream::Frontier;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, try_join_all};
use parking_lot::Mutex;

use crate::streams::ServedStream;

type Answer = Shared<BoxFuture<'static, Result<Frontier, String>>>;

/// See the module.
#[derive(Debug, Default)]
pub struct Gates {
    gates: Mutex<BTreeMap<StreamId, Arc<Gate>>>,
}

#[derive(Default)]
struct Gate {
    /// The question that is not on its way yet.
    next: Mutex<Option<Answer>>,
    /// Held by the one that is.
    turn: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Gates {
    /// The end of each partition: everything acknowledged before this was called is before it.
    ///
    /// # Errors
    /// Why a partition does not say, in words.
    pub async fn ends(&self, stream: &Arc<ServedStream>) -> Result<Frontier, String> {
        let gate = Arc::clone(self.gates.lock().entry(stream.stream.id).or_default());
        let ask = || {
            let stream = Arc::clone(stream);
            async move { ask(&stream).await }.boxed()
        };
        gate.join(ask).await
    }
}

impl Gate {
    async fn join(
        self: Arc<Self>,
        ask: impl FnOnce() -> BoxFuture<'static, Result<Frontier, String>>,
    ) -> Result<Frontier, String> {
        let answer = {
            let mut next = self.next.lock();
            let gate = Arc::clone(&self);
            let begin = || {
                let ask = ask();
                let turn = async move {
                    let _turn = gate.turn.lock().await;
                    // Who comes from here on waits for another answer.
                    *gate.next.lock() = None;
                    ask.await
                };
                turn.boxed().shared()
            };
            next.get_or_insert_with(begin).clone()
        };
        answer.await
    }
}

async fn ask(stream: &ServedStream) -> Result<Frontier, String> {
    let reads = stream.partitions.iter().map(|partition| async move {
        let end = partition.end().await.map_err(|error| error.to_string())?;
        Ok::<_, String>((partition.number, end))
    });
    Ok(Frontier(try_join_all(reads).await?.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use alluvium_core::ids::{Offset, PartitionNumber};
    use tokio::sync::Semaphore;

    use super::*;

    /// However many ask, no answer was looked for before its asker came, and few are looked for.
    #[tokio::test]
    async fn answers_are_shared_and_never_older_than_the_question() {
        let gate = Arc::new(Gate::default());
        let (asked, clock) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let go = Arc::new(Semaphore::new(0));
        let question = || {
            let (asked, clock, go) = (asked.clone(), clock.clone(), go.clone());
            move || {
                let look = async move {
                    asked.fetch_add(1, Ordering::SeqCst);
                    let now = clock.load(Ordering::SeqCst);
                    go.acquire().await.unwrap().forget();
                    Ok(Frontier([(PartitionNumber(0), Offset(now))].into()))
                };
                look.boxed()
            }
        };
        let mut askers = Vec::new();
        for came in 1..=100_u64 {
            clock.store(came, Ordering::SeqCst);
            let answer = gate.clone().join(question());
            askers.push(tokio::spawn(async move { (came, answer.await.unwrap()) }));
            tokio::task::yield_now().await;
        }
        go.add_permits(2);
        for asker in askers {
            let (came, frontier) = asker.await.unwrap();
            assert!(came <= frontier.0[&PartitionNumber(0)].0, "asker {came}: {frontier:?}");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2, "one for the first, one for all others");
    }

    /// An asker who leaves does not take the answer along.
    #[tokio::test]
    async fn a_question_goes_on_when_its_first_asker_leaves() {
        let gate = Arc::new(Gate::default());
        let go = Arc::new(Semaphore::new(0));
        let question = || {
            let go = go.clone();
            move || {
                async move {
                    go.acquire().await.unwrap().forget();
                    Ok(Frontier::default())
                }
                .boxed()
            }
        };
        let first = tokio::spawn(gate.clone().join(question()));
        tokio::task::yield_now().await;
        let second = tokio::spawn(gate.clone().join(question()));
        tokio::task::yield_now().await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        go.add_permits(2);
        assert_eq!(second.await.unwrap(), Ok(Frontier::default()));
    }
}
