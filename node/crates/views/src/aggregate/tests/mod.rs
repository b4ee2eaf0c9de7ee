//! Property tests of all aggregates.
