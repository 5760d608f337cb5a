//! `BGPPeer`: a router to speak BGP with, in the two versions that MetalLB serves.
//!
//! Fields that both versions have are spelt the same and mean the same, so an object written in one can be read in the
//! other even where no conversion webhook is set; the older version then leaves out what it does not know.

pub mod v1beta1;
pub mod v1beta2;
