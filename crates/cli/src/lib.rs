//! The command line twinkeep.
