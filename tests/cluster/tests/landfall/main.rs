//! Landfall on a real cluster, asked through the API and on the wire. `cargo lab test` runs these.

mod addresses;
mod admission;
mod announced_condition;
mod answers;
mod article;
mod bad_input;
mod configuration_state;
mod dual_stack;
mod eviction;
mod helm;
mod idle;
mod impossible;
mod inspection;
mod leader;
mod local_policy;
mod manifests;
mod placement;
mod pool_under_load;
mod pools;
mod replacement;
mod restarts;
mod sequences;
mod sharing;
mod speaker_key;
mod takeover;
mod watches;
