//! Seals, root, epoch and instance keys, command signing and the recovery bundle.
