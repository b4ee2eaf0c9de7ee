//! The engine underneath: its settings, functions and memory, set once for all statements.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::execution::FunctionRegistry;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::ensure_coop::EnsureCooperative;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;
use object_store::memory::InMemory;

use crate::aggregates;
use crate::bounded;
use crate::breath::JoinsTakeBreath;
use crate::catalog::{CATALOGUE, PUBLIC};
use crate::distinct::CountDistinctInGroups;
use crate::early::AggregateBeforeJoin;
use crate::error::SqlError;
use crate::functions;
use crate::literals::Literals;
use crate::pg_catalog;
use crate::segments::store_url;
use crate::views::window;

/// What the engine may use.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Memory of all running statements together; a statement that needs more spills to `temp_dir`,
    /// and fails where that does not help.
    pub memory_bytes_max: usize,
    /// Memory of parsed segment footers.
    pub footer_bytes_max: usize,
    /// Where statements spill. Created when first needed.
    pub temp_dir: PathBuf,
    /// What may be spilled at one time.
    pub temp_bytes_max: u64,
    /// How many cores one statement uses.
    pub target_partitions: usize,
    /// Length of one statement.
    pub sql_bytes_max: usize,
}

impl EngineOptions {
    /// Fit for one small machine: a gibibyte of memory, all cores.
    pub fn new(temp_dir: impl Into<PathBuf>) -> EngineOptions {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        EngineOptions {
            memory_bytes_max: 1 << 30,
            footer_bytes_max: 256 << 20,
            temp_dir: temp_dir.into(),
            temp_bytes_max: 64 << 30,
            target_partitions: cores,
            sql_bytes_max: 1 << 20,
        }
    }
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A number that cannot be.
    #[error("query engine option {option} must not be 0")]
    Zero {
        /// Its name.
        option: &'static str,
    },
    /// The engine underneath refused.
    #[error("start the query engine")]
    Start(#[source] SqlError),
}

/// The state every statement starts from.
pub(crate) fn base(options: &EngineOptions) -> Result<SessionState, EngineError> {
    for (option, value) in [
        ("memory_bytes_max", options.memory_bytes_max),
        ("target_partitions", options.target_partitions),
        ("sql_bytes_max", options.sql_bytes_max),
    ] {
        if value == 0 {
            return Err(EngineError::Zero { option });
        }
    }
    let runtime = runtime(options).map_err(EngineError::Start)?;
    let mut state = SessionStateBuilder::new()
        .with_config(config(options))
        .with_runtime_env(Arc::new(runtime))
        .with_default_features()
        .with_optimizer_rules(logical_rules())
        .with_physical_optimizer_rules(physical_rules())
        .build();
    state
        .register_function_rewrite(Arc::new(Literals))
        .map_err(|error| EngineError::Start(error.into()))?;
    datafusion_functions_json::register_all(&mut state)
        .map_err(|error| EngineError::Start(error.into()))?;
    aggregates::register(&mut state).map_err(|error| EngineError::Start(error.into()))?;
    functions::register(&mut state).map_err(|error| EngineError::Start(error.into()))?;
    bounded::register(&mut state).map_err(|error| EngineError::Start(error.into()))?;
    pg_catalog::register(&mut state).map_err(|error| EngineError::Start(error.into()))?;
    window::register(&mut state).map_err(|error| EngineError::Start(error.into()))?;
    Ok(state)
}

/// The engine's rules with ours between them.
fn logical_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    let place = rules.iter().position(|rule| rule.name() == SingleDistinctToGroupBy::new().name());
    let place = place.expect("the engine has this rule");
    rules.insert(place, Arc::new(CountDistinctInGroups::new()));
    rules
}

/// The engine's rules with ours between them: projections are part of joins by then, and filters
/// that a join makes for its inputs have not been handed down yet. The last rule changes nothing
/// but when a plan waits, and would hide joins from those before it.
fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    let place = rules.iter().position(|rule| rule.name() == EnsureCooperative::new().name());
    rules.insert(place.expect("the engine has this rule"), Arc::new(AggregateBeforeJoin));
    rules.push(Arc::new(JoinsTakeBreath));
    rules
}

fn runtime(options: &EngineOptions) -> Result<RuntimeEnv, SqlError> {
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![options.temp_dir.clone()]))
        .with_max_temp_directory_size(options.temp_bytes_max);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(options.memory_bytes_max)))
        .with_disk_manager_builder(disk)
        .build()?;
    // No statement reaches a file by its path: the local file system is not registered, and the one
    // store there is holds nothing. Segments are opened by their pins alone.
    runtime.deregister_object_store(ObjectStoreUrl::local_filesystem().as_ref())?;
    runtime.register_object_store(store_url().as_ref(), Arc::new(InMemory::new()));
    Ok(runtime)
}

fn config(options: &EngineOptions) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_target_partitions(options.target_partitions)
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOGUE, PUBLIC);
    let all = config.options_mut();
    // TIMESTAMPTZ columns are UTC, so texts compared with them and now() are too.
    all.execution.time_zone = Some("UTC".into());
    // Segments are written without bloom filters; looking for them costs a read for each column.
    all.execution.parquet.bloom_filter_on_read = false;
    // Its bounds for min and max over an expression are those of the column inside: a scan then
    // leaves out rows that count.
    all.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    all.explain.show_sizes = false;
    config
}
