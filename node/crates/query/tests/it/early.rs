//! Events joined with a small table are aggregated before the join where that pays, and distinct
//! values are counted without grouping by them; answers stay the same.

use crate::world::World;

const BY_TEAM: &str = "SELECT t.team, count(*), sum(r.ride_id), max(r.elapsed_s) FROM rides r \
     JOIN riders t ON t.rider = r.rider GROUP BY t.team ORDER BY t.team";

/// 1,200 rides of seven riders, all sealed, and those riders that are asked for, each in a team.
async fn world(riders: impl Iterator<Item = u32>) -> World {
    let world = World::new();
    world.rides(40, 0).await;
    world.csv("CREATE STREAM riders (rider TEXT, team TEXT) WITH (partitions = 1)").await;
    let riders: Vec<String> =
        riders.map(|rider| format!("('r{rider}', 'team{}')", rider % 2)).collect();
    world.csv(&format!("INSERT INTO riders VALUES {}", riders.join(", "))).await;
    world.host.seal("riders").unwrap();
    world
}

fn expected(riders: impl Iterator<Item = u32> + Clone) -> String {
    let team = |team: u32| {
        let riders = riders.clone();
        let rides = (0..1_200).filter_map(move |ride| {
            let places = riders.clone().filter(|rider| *rider == ride % 7 && *rider % 2 == team);
            Some((ride, places.count() as u32)).filter(|(_, count)| *count != 0)
        });
        let count: u32 = rides.clone().map(|(_, count)| count).sum();
        let sum: u32 = rides.clone().map(|(ride, count)| ride * count).sum();
        let last = rides.map(|(ride, _)| ride).max().unwrap_or_default();
        format!("team{team},{count},{sum},{:.1}\n", f64::from(last) / 2.0)
    };
    [team(0), team(1)].concat()
}

#[tokio::test]
async fn rides_are_aggregated_before_the_join_with_all_riders() {
    let world = world(0..7).await;
    let plan = world.plan(BY_TEAM).await;
    assert!(plan.contains("mode=PartialReduce"), "{plan}");
    assert_eq!(world.rows(BY_TEAM).await, expected(0..7));
}

#[tokio::test]
async fn a_rider_that_is_there_twice_counts_twice() {
    let riders = (0..7).chain([2, 3, 3]);
    let world = world(riders.clone()).await;
    let plan = world.plan(BY_TEAM).await;
    assert!(plan.contains("mode=PartialReduce"), "{plan}");
    assert_eq!(world.rows(BY_TEAM).await, expected(riders));
}

#[tokio::test]
async fn rides_are_joined_first_where_that_may_be_cheaper() {
    // Some riders are outside of what the small table holds: they may be many.
    let world = world(1..5).await;
    let plan = world.plan(BY_TEAM).await;
    assert!(!plan.contains("PartialReduce"), "{plan}");
    assert_eq!(world.rows(BY_TEAM).await, expected(1..5));
    // What is aggregated needs both sides.
    let both = BY_TEAM.replace("max(r.elapsed_s)", "max(t.rider || r.rider)");
    let plan = world.plan(&both).await;
    assert!(!plan.contains("PartialReduce"), "{plan}");
}

#[tokio::test]
async fn distinct_numbers_are_counted_in_groups() {
    let world = World::new();
    world.rides(4, 20).await;
    let sql = "SELECT rider, count(DISTINCT ride_id), count(DISTINCT ride_id / 14), \
         count(DISTINCT started_at) FILTER (WHERE ride_id < 14) FROM rides \
         GROUP BY rider ORDER BY rider";
    let plan = world.plan(sql).await;
    assert!(!plan.contains("alias1"), "{plan}");
    let rider = |rider: u32| {
        let rides = (0..140).filter(move |ride| ride % 7 == rider);
        let mut halves: Vec<u32> = rides.clone().map(|ride| ride / 14).collect();
        halves.dedup();
        let early = rides.clone().filter(|ride| *ride < 14).count();
        format!("r{rider},{},{},{early}\n", rides.count(), halves.len())
    };
    assert_eq!(world.rows(sql).await, (0..7).map(rider).collect::<String>());
}
