//! The programs with real frames, between containers that are network namespaces.

mod frames;
mod guard;
mod life;
mod scene;
mod ways;
