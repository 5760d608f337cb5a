//! Who gets which address? Pure: pools, requests and held addresses in, a decision with its reason out.
