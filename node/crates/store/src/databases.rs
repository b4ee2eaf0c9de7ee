//! The two databases and every setting of theirs.
//!
//! `raft` has a log of its own that is synced before anything is acknowledged. `state` has none:
//! what it holds can be made again from the event log, and whoever needs it durable flushes it.
//!
//! Invariant: after a crash, `raft` holds every synced batch whole, or refuses to open.

use std::path::Path;

use alluvium_core::ids::{GroupId, Index};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBPinnableSlice, DBRawIterator, DBRecoveryMode, DataBlockIndexType, Env, FlushOptions, Options,
    ReadOptions, ReadTier, WriteBatch, WriteBufferManager, WriteOptions,
};

use crate::error::StoreError;
use crate::keys;
use crate::nice;
use crate::options::StoreOptions;

const LOG: &str = "log";
const META: &str = "meta";

const LOG_BLOCK_BYTES: usize = 16 << 10;

/// Values below this stay in the tables: a blob reference costs about as much as a small entry.
const BLOB_BYTES_MIN: u64 = 4_096;

/// However small the disk is.
const LOG_MEMTABLE_BYTES_MIN: usize = 1 << 20;

/// Memtable of hard states and manifest rows: a few hundred bytes each, overwritten all the time.
const META_MEMTABLE_BYTES: usize = 4 << 20;

/// Memtable of the database without log. With [`crate::views`]'s flush by the clock it bounds how
/// much a node folds again after a crash.
const STATE_MEMTABLE_BYTES: usize = 64 << 20;

/// The one column family of the database without log: its memtables are flushed in order, so what
/// survives a crash is what some prefix of the writes left.
const STATE: &str = "default";

/// Groups of views are read one by one, in no order: smaller blocks than those of the log database
/// mean less to unpack for each.
const STATE_BLOCK_BYTES: usize = 8 << 10;

/// Part of a memtable of groups that tells which keys are not in it: most reads go past it.
const STATE_MEMTABLE_BLOOM: f64 = 0.05;

/// How often the databases get their share of what flushes may write: each time a sync waits for no
/// more than that.
const FLUSH_REFILL_MICROS: i64 = 5_000;

/// Of so many grants to flushes, one goes to a compaction first.
const FLUSHES_BEFORE_COMPACTION: i32 = 10;

/// Whether a write waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    /// It survives a crash of the machine.
    Yes,
    /// It survives a crash of the process.
    No,
}

/// Both databases, open.
pub(crate) struct Databases {
    raft: DB,
    state: DB,
    // Named last: the databases charge their memory to it until they are closed.
    memtables: WriteBufferManager,
}

/// A key and its value.
pub(crate) type Row<'a> = (&'a [u8], &'a [u8]);

/// A range of one family's keys.
pub(crate) struct Rows<'a> {
    rows: DBRawIterator<'a>,
    started: bool,
}

impl Databases {
    /// `reserve_bytes` is what is kept free on the disk.
    pub(crate) fn open(
        dir: &Path,
        options: &StoreOptions,
        reserve_bytes: u64,
    ) -> Result<Databases, StoreError> {
        // A flush goes on when writes are refused already, and must find room.
        let fits = usize::try_from(reserve_bytes / 2).unwrap_or(usize::MAX);
        let log_memtable_bytes = options.log_memtable_bytes.min(fits.max(LOG_MEMTABLE_BYTES_MIN));
        let options = &StoreOptions { log_memtable_bytes, ..options.clone() };
        let cache = Cache::new_lru_cache(options.cache_bytes);
        // Three memtables of the log: one filling, two being flushed while the disk is slow. Above
        // that RocksDB flushes early instead of growing.
        let memtable_bytes = 3 * options.log_memtable_bytes + 2 * STATE_MEMTABLE_BYTES;
        let memtables = WriteBufferManager::new_write_buffer_manager(memtable_bytes, false);
        let env = environment()?;
        let tables = table_options(&cache, LOG_BLOCK_BYTES);
        let common = common_options(&env, &memtables, options.flush_bytes_per_second);
        let raft = open_raft(&dir.join("raft"), options, common.clone(), &tables)?;
        let state = open_state(&dir.join("state"), &common, &cache)?;
        Ok(Databases { raft, state, memtables })
    }

    /// The column family of entries.
    pub(crate) fn log(&self) -> &ColumnFamily {
        self.raft.cf_handle(LOG).expect("opened with it")
    }

    /// The column family of hard states, replica rows and the manifest.
    pub(crate) fn meta(&self) -> &ColumnFamily {
        self.raft.cf_handle(META).expect("opened with it")
    }

    pub(crate) fn write(&self, batch: WriteBatch, sync: Sync) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(sync == Sync::Yes);
        self.raft.write_opt(batch, &options).map_err(StoreError::database("write the log database"))
    }

    pub(crate) fn get_meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.raft.get_cf(self.meta(), key).map_err(StoreError::database("read the log database"))
    }

    /// Rows of the `meta` column family with keys in `[first, after)`.
    pub(crate) fn meta_rows(&self, first: &[u8], after: &[u8]) -> Rows<'_> {
        let options = range(first, after);
        Rows { rows: self.raft.raw_iterator_cf_opt(self.meta(), options), started: false }
    }

    /// Entries of a group from `first` on.
    pub(crate) fn log_rows(&self, group: GroupId, first: Index) -> Rows<'_> {
        let first = keys::log::encode(group, first);
        let mut options = range(&first, &after_group(group));
        // A restart reads the whole log of the group once, front to back.
        options.set_readahead_size(2 << 20);
        options.fill_cache(false);
        Rows { rows: self.raft.raw_iterator_cf_opt(self.log(), options), started: false }
    }

    /// The last entry of a group that is stored at all.
    pub(crate) fn last_entry(&self, group: GroupId) -> Result<Option<Index>, StoreError> {
        let first = keys::log::encode(group, Index(0));
        let mut rows =
            self.raft.raw_iterator_cf_opt(self.log(), range(&first, &after_group(group)));
        rows.seek_to_last();
        rows.status().map_err(StoreError::database("read the log"))?;
        Ok(rows.key().and_then(keys::log::decode).map(|(_, index)| index))
    }

    pub(crate) fn get_state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.state.get(key).map_err(StoreError::database("read the state database"))
    }

    /// As it would be found after a crash at this moment.
    pub(crate) fn get_durable_state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        self.state.get_opt(key, &options).map_err(StoreError::database("read the state database"))
    }

    /// Many keys of the database without log, faster than one by one.
    pub(crate) fn get_states(
        &self,
        keys: &[Vec<u8>],
    ) -> Vec<Result<Option<DBPinnableSlice<'_>>, rocksdb::Error>> {
        let family = self.state.cf_handle(STATE).expect("opened with it");
        self.state.batched_multi_get_cf(family, keys, keys.is_sorted())
    }

    /// Rows of the database without log with keys in `[first, after)`.
    pub(crate) fn state_rows(&self, first: &[u8], after: &[u8]) -> Rows<'_> {
        Rows { rows: self.state.raw_iterator_opt(range(first, after)), started: false }
    }

    /// The same for reading much of them once: what others read often stays in memory.
    pub(crate) fn state_rows_once(&self, first: &[u8], after: &[u8]) -> Rows<'_> {
        let mut options = range(first, after);
        options.fill_cache(false);
        Rows { rows: self.state.raw_iterator_opt(options), started: false }
    }

    /// Writes to the database without log: durable after [`Databases::flush_state`].
    pub(crate) fn write_state(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.state
            .write_opt(batch, &options)
            .map_err(StoreError::database("write the state database"))
    }

    pub(crate) fn flush_state(&self) -> Result<(), StoreError> {
        self.state.flush().map_err(StoreError::database("flush the state database"))
    }

    /// Begins what [`Databases::flush_state`] waits for.
    pub(crate) fn begin_flush_state(&self) -> Result<(), StoreError> {
        let mut options = FlushOptions::default();
        options.set_wait(false);
        self.state.flush_opt(&options).map_err(StoreError::database("flush the state database"))
    }

    /// Drops the files of the database without log that hold keys in `[first, after)` alone, also
    /// for whoever pinned an older state of it by a snapshot. Nobody may need such keys any more.
    pub(crate) fn drop_state_files(&self, first: &[u8], after: &[u8]) -> Result<(), StoreError> {
        self.state
            .delete_file_in_range(first, after)
            .map_err(StoreError::database("drop files of the state database"))
    }

    /// Bytes of all memtables.
    pub(crate) fn memtable_bytes(&self) -> u64 {
        self.memtables.get_usage() as u64
    }
}

impl Rows<'_> {
    /// Goes to the first key at or after `key` and gives that; all of them are of one moment,
    /// wherever one goes.
    pub(crate) fn skip_to(&mut self, key: &[u8]) -> Result<Option<Row<'_>>, StoreError> {
        self.rows.seek(key);
        self.started = true;
        self.rows.status().map_err(StoreError::database("read a range"))?;
        Ok(self.rows.item())
    }

    /// The next key and value, or the end.
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>, StoreError> {
        if self.started {
            self.rows.next();
        } else {
            self.rows.seek_to_first();
            self.started = true;
        }
        // An iterator that met damage looks like one at its end: only the status tells them apart.
        self.rows.status().map_err(StoreError::database("read a range"))?;
        Ok(self.rows.item())
    }
}

fn after_group(group: GroupId) -> Vec<u8> {
    match group.0.checked_add(1) {
        Some(next) => next.to_be_bytes().to_vec(),
        None => vec![0xff; keys::log::KEY_BYTES + 1],
    }
}

fn range(first: &[u8], after: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(first);
    options.set_iterate_upper_bound(after);
    options
}

/// Threads for flushes and compactions, shared by both databases. Both give way to everything that
/// someone waits for, compactions even to flushes.
fn environment() -> Result<Env, StoreError> {
    // RocksDB knows no nice value between none and the last one; but it makes its threads here, and
    // threads begin with that of whoever makes them.
    let made = std::thread::spawn(|| {
        nice::set(nice::FLUSH);
        let mut env = Env::new()?;
        env.set_high_priority_background_threads(1);
        env.set_low_priority_background_threads(1);
        env.lower_thread_pool_cpu_priority();
        Ok(env)
    });
    let made = made.join().expect("it calls RocksDB and no more");
    made.map_err(StoreError::database("open the environment"))
}

fn table_options(cache: &Cache, block_bytes: usize) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(cache);
    tables.set_block_size(block_bytes);
    tables.set_bloom_filter(10.0, false);
    tables.set_whole_key_filtering(true);
    tables.set_optimize_filters_for_memory(true);
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
    tables
}

/// Copies of it share one limit of what flushes and compactions write.
fn common_options(env: &Env, memtables: &WriteBufferManager, bytes_per_second: u64) -> Options {
    let mut options = Options::default();
    options.set_env(env);
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_write_buffer_manager(memtables);
    options.set_max_background_jobs(2);
    // Flushes hand their pages to the disk little by little, and at a rate: a memtable that goes to
    // a fast disk at once fills the disk's queue, and the syncs that producers wait for stand
    // behind it for tens of milliseconds.
    options.set_bytes_per_sync(256 << 10);
    let bytes_per_second = i64::try_from(bytes_per_second).unwrap_or(i64::MAX);
    options.set_ratelimiter(bytes_per_second, FLUSH_REFILL_MICROS, FLUSHES_BEFORE_COMPACTION);
    // Whoever yields the processor on a busy machine gets it back after milliseconds.
    options.set_enable_write_thread_adaptive_yield(false);
    options.set_stats_dump_period_sec(0);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    // A few dozen tables at most; the limit only guards a node with thousands of groups.
    options.set_max_open_files(256);
    options
}

fn open_raft(
    path: &Path,
    options: &StoreOptions,
    mut database: Options,
    tables: &BlockBasedOptions,
) -> Result<DB, StoreError> {
    // A torn last batch was never acknowledged and is dropped. Damage before it refuses to open:
    // the default mode would silently forget everything after the damage.
    database.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    database.set_track_and_verify_wals_in_manifest(true);
    // Bounds what a restart reads again: RocksDB flushes whatever holds an old file back.
    let log_files_bytes = 2 * options.log_memtable_bytes as u64;
    database.set_max_total_wal_size(log_files_bytes);

    let mut log = Options::default();
    log.set_block_based_table_factory(tables);
    log.set_write_buffer_size(options.log_memtable_bytes);
    log.set_max_write_buffer_number(4);
    // Payloads are compressed by whoever sent them, or fast to read because they are not.
    log.set_compression_type(DBCompressionType::None);
    if options.blob_files {
        log.set_enable_blob_files(true);
        log.set_min_blob_size(BLOB_BYTES_MIN);
        log.set_blob_file_size(256 << 20);
        log.set_blob_compression_type(DBCompressionType::None);
        log.set_enable_blob_gc(true);
    }

    let mut meta = Options::default();
    meta.set_block_based_table_factory(tables);
    meta.set_write_buffer_size(META_MEMTABLE_BYTES);
    meta.set_compression_type(DBCompressionType::Lz4);

    let families = [ColumnFamilyDescriptor::new(LOG, log), ColumnFamilyDescriptor::new(META, meta)];
    DB::open_cf_descriptors(&database, path, families)
        .map_err(StoreError::database("open the log database"))
}

fn open_state(path: &Path, database: &Options, cache: &Cache) -> Result<DB, StoreError> {
    let mut tables = table_options(cache, STATE_BLOCK_BYTES);
    tables.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    let mut state = Options::default();
    state.set_block_based_table_factory(&tables);
    state.set_write_buffer_size(STATE_MEMTABLE_BYTES);
    state.set_max_write_buffer_number(3);
    state.set_compression_type(DBCompressionType::Lz4);
    state.set_memtable_prefix_bloom_ratio(STATE_MEMTABLE_BLOOM);
    state.set_memtable_whole_key_filtering(true);
    let families = [ColumnFamilyDescriptor::new(STATE, state)];
    DB::open_cf_descriptors(database, path, families)
        .map_err(StoreError::database("open the state database"))
}
