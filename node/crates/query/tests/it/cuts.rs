//! A query reads exactly the events of its cut, whatever they lie in.

use alluvium_core::ids::{Offset, PartitionNumber};
use alluvium_core::stream::Frontier;
use alluvium_query::ErrorKind;
use alluvium_query::host::Freshness;

use crate::world::World;

const DIGEST: &str = "SELECT count(*), sum(ride_id), min(rider), max(elapsed_s), min(_offset), \
                      max(_offset), count(DISTINCT _partition) FROM rides";
const COUNT: &str = "SELECT count(*), count(rider), min(ride_id), max(ride_id) FROM rides";

#[tokio::test]
async fn an_answer_at_a_frontier_stays_the_same() {
    let world = World::new();
    world.rides(0, 0).await;
    let mut seen = Vec::new();
    for round in 0..12 {
        world.append_rides(round * 17, 17).await;
        let frontier = world.host.frontier("rides").unwrap();
        let answer = world.run(DIGEST).await.unwrap();
        assert_eq!(answer.as_of, [("rides".to_string(), frontier.clone())]);
        seen.push((frontier, world.csv(DIGEST).await, world.csv(COUNT).await));
        // Every third round what is there so far becomes segments, so the early frontiers are later
        // met inside a segment, at its end, and across several.
        if round % 3 == 1 {
            world.host.seal("rides").unwrap();
        }
        for (frontier, digest, count) in &seen {
            assert_eq!(world.as_of(DIGEST, "rides", frontier).await, *digest, "{frontier:?}");
            assert_eq!(world.as_of(COUNT, "rides", frontier).await, *count, "{frontier:?}");
        }
    }
}

#[tokio::test]
async fn every_offset_of_a_partition_can_be_the_end() {
    let world = World::new();
    world.csv("CREATE STREAM numbers (n BIGINT)").await;
    for first in [0, 40] {
        let sql =
            format!("INSERT INTO numbers SELECT value FROM generate_series({first}, {first} + 39)");
        world.csv(&sql).await;
        if first == 0 {
            world.host.seal("numbers").unwrap();
        }
    }
    for end in 0..=80_u64 {
        let frontier = Frontier([(PartitionNumber(0), Offset(end))].into());
        let sql = "SELECT count(*), sum(n), max(_offset) FROM numbers";
        let last = end.checked_sub(1).map(|last| last.to_string()).unwrap_or_default();
        let sum = end.checked_sub(1).map(|last| (last * end / 2).to_string()).unwrap_or_default();
        let expected = format!("{end},{sum},{last}\n");
        let answer = world.as_of(sql, "numbers", &frontier).await;
        assert_eq!(answer.split_once('\n').unwrap().1, expected, "end {end}");
        // The same count without reading, from the statistics of the cut.
        let counted = world.as_of("SELECT count(*) FROM numbers", "numbers", &frontier).await;
        assert_eq!(counted, format!("count(*)\n{end}\n"));
    }
}

#[tokio::test]
async fn one_statement_reads_a_stream_at_one_cut() {
    let world = World::new();
    world.rides(1, 3).await;
    let sql = "SELECT (SELECT count(*) FROM rides) - (SELECT count(*) FROM rides AS again)";
    let answer = world.run(sql).await.unwrap();
    assert_eq!(answer.as_of.len(), 1);
    assert_eq!(world.rows(sql).await, "0\n");
}

#[tokio::test]
async fn rows_before_the_start_are_gone() {
    let world = World::new();
    world.csv("CREATE STREAM numbers (n BIGINT)").await;
    for first in [0, 10, 20] {
        let sql =
            format!("INSERT INTO numbers SELECT value FROM generate_series({first}, {first} + 9)");
        world.csv(&sql).await;
        world.host.seal("numbers").unwrap();
    }
    world.host.retain("numbers", Offset(13)).unwrap();
    assert_eq!(world.rows("SELECT count(*), min(n), max(n) FROM numbers").await, "17,13,29\n");
    assert_eq!(world.rows("SELECT count(*) FROM numbers").await, "17\n");
    let gone = Frontier([(PartitionNumber(0), Offset(5))].into());
    let freshness = Freshness::AsOf(vec![(world.stream_id("numbers"), gone)]);
    let error = world.try_csv("SELECT n FROM numbers", freshness).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfRange);
    assert_eq!(error.to_string(), "offset 5 of partition 0 is outside 13..30");
}
