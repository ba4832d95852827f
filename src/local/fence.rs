//! What keeps a host that was taken for dead from serving what is another's now: its incarnation, the
//! generations of its addresses, and the endpoints that were cut off.

use super::{CutOff, Local, LocalError, files};
use crate::model::EndpointId;

impl Local {
    /// The number of the next registration: above all earlier ones of this directory, and above `known`,
    /// the one that the store remembers.
    pub fn next_incarnation(&self, known: u64) -> Result<u64, LocalError> {
        self.change(|data| {
            let next = data.incarnation.max(known).saturating_add(1);
            files::write(&self.dir.join("incarnation.json"), &next, true)?;
            data.incarnation = next;
            Ok(next)
        })
    }

    /// Takes an endpoint off its network. What is cut off stays so: only the first reason counts. `false`
    /// if it is not there or was cut off before.
    pub fn cut_off(&self, id: &EndpointId, why: CutOff) -> Result<bool, LocalError> {
        self.update_endpoint(id, |endpoint| {
            endpoint.cut_off.get_or_insert(why);
        })
    }
}
