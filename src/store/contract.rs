//! The contract that every backend keeps, as tests.
