//! The programs with real frames, between containers that are network namespaces.

mod frames;
mod guard;
mod scene;
mod ways;
