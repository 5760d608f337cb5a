//! What may users write? The metallb.io kinds, annotations, and the CRD generator.
