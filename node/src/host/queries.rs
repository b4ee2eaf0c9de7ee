//! The queries of this node as SQL shows and stops them.
//!
//! A query is called by its node and a number there, `1-42`, so that asking the wrong node to stop
//! it stops nothing else, and says which node to ask.

use alluvium_core::ids::NodeId;
use alluvium_query::access::Caller;
use alluvium_query::host::{HostError, QueryRow};

use crate::sql::run::Statements;

/// `system.queries`
pub fn rows(me: NodeId, statements: &Statements) -> Vec<QueryRow> {
    let running = statements.running().into_iter();
    let rows = running.map(|(number, shown)| QueryRow {
        id: format!("{}-{number}", me.0),
        door: shown.door.name().into(),
        caller: shown.asker.caller.clone(),
        client: shown.asker.client.map(|client| client.to_string()),
        state: shown.doing().name().into(),
        started_at: shown.since,
        elapsed: shown.watch.elapsed(),
        rows: shown.rows(),
        statement: shown.sql.clone(),
    });
    rows.collect()
}

/// `KILL QUERY`; where `of` is said, those of others are not there.
pub fn kill(
    me: NodeId,
    statements: &Statements,
    id: &str,
    of: Option<&Caller>,
) -> Result<(), HostError> {
    let Some((node, number)) = parse(id) else {
        let reason = format!(
            "\"{id}\" is no id of a query: system.queries shows them, such as '{}-42'",
            me.0
        );
        return Err(HostError::Invalid { reason });
    };
    if node != me {
        let reason = format!("query \"{id}\" runs on node {}: ask that node to stop it", node.0);
        return Err(HostError::Invalid { reason });
    }
    match statements.stop(number, of) {
        true => Ok(()),
        false => Err(HostError::UnknownQuery { id: id.into() }),
    }
}

fn parse(id: &str) -> Option<(NodeId, u64)> {
    let (node, number) = id.trim().split_once('-')?;
    Some((NodeId(node.parse().ok()?), number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sql::run::{Asker, Doing, Door};

    fn asker(caller: Caller) -> Asker {
        Asker { caller, client: "127.0.0.1:4711".parse().ok() }
    }

    #[test]
    fn what_runs_is_shown_until_it_ends() {
        let statements: Arc<Statements> = Arc::default();
        let me = NodeId(3);
        let by = asker(Caller::Everybody);
        let place = statements.admit("SELECT 1", Door::Postgres, &by).unwrap();
        place.answers();
        place.gave(2);
        let shown = rows(me, &statements);
        let [row] = shown.as_slice() else { panic!("one row: {shown:?}") };
        assert_eq!((row.id.as_str(), row.door.as_str(), row.rows), ("3-1", "postgres", 2));
        assert_eq!(row.client.as_deref(), Some("127.0.0.1:4711"));
        assert_eq!(row.state, Doing::Answering.name());
        drop(place);
        assert!(rows(me, &statements).is_empty());
        assert!(matches!(kill(me, &statements, "3-1", None), Err(HostError::UnknownQuery { .. })));
    }

    #[tokio::test]
    async fn only_the_query_that_is_named_is_stopped() {
        let statements: Arc<Statements> = Arc::default();
        let me = NodeId(3);
        let by = asker(Caller::Everybody);
        let first = statements.admit("SELECT 1", Door::Grpc, &by).unwrap();
        let _second = statements.admit("SELECT 2", Door::Http, &by).unwrap();
        for id in ["4-1", "1", "x-1", "3-", ""] {
            assert!(
                matches!(kill(me, &statements, id, None), Err(HostError::Invalid { .. })),
                "{id}"
            );
        }
        kill(me, &statements, " 3-1 ", None).unwrap();
        // Asked for before anybody waited, and not lost.
        first.stopped().await;
        let states: Vec<String> = rows(me, &statements).into_iter().map(|row| row.state).collect();
        assert_eq!(states, [Doing::Stopping.name(), Doing::Planning.name()]);
    }

    /// Passwords are not shown, and what others ask is not there to be stopped.
    #[tokio::test]
    async fn a_query_is_its_callers() {
        let statements: Arc<Statements> = Arc::default();
        let me = NodeId(3);
        let (ann, ben) = (Caller::Role("ann".into()), Caller::Role("ben".into()));
        let sql = "ALTER USER ann PASSWORD 'hunter2'";
        let _place = statements.admit(sql, Door::Http, &asker(ann.clone())).unwrap();
        let shown = rows(me, &statements);
        assert!(shown[0].caller == ann && !shown[0].statement.contains("hunter2"), "{shown:?}");
        let unknown = kill(me, &statements, "3-1", Some(&ben));
        assert!(matches!(unknown, Err(HostError::UnknownQuery { .. })));
        assert_eq!(rows(me, &statements)[0].state, Doing::Planning.name());
        kill(me, &statements, "3-1", Some(&ann)).unwrap();
        assert_eq!(rows(me, &statements)[0].state, Doing::Stopping.name());
    }
}
