//! Choices of addresses, subnets and VNIs. Pure: what is taken goes in, what to claim comes out.

mod address;
mod pool;
mod pool_id;
mod reserve;
mod vni;

pub use address::{AddressChoice, Direction, choose_address, usable};
pub use pool::{AddrPool, Overlap, PoolChoice, choose_pool, first_overlap, overlapping};
pub use pool_id::{Hold, PoolId, PoolIdError};
pub use reserve::{ReserveChange, ReserveQuestion, plan_reserve};
pub use vni::{choose_vni, foreign_vnis};
