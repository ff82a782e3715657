//! The Hydra worker: the walk, the plugin contract and the two threads.
