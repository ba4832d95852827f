//! Claims that are to be given back and that the book does not have.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Local, LocalData, LocalError, Release, files};

impl Local {
    /// Queues a claim to be given back.
    pub fn put_release(&self, release: Release) -> Result<(), LocalError> {
        self.change(|data| self.store_release(data, release))
    }

    /// Takes a release off the queue that has been carried out; a later one of the same address stays.
    pub fn settle_release(&self, release: &Release) -> Result<(), LocalError> {
        self.change(|data| {
            if data.releases.get(&release.key()) == Some(release) {
                files::remove(&self.file("releases", &release.file_name()))?;
                data.releases.remove(&release.key());
            }
            Ok(())
        })
    }

    /// Takes an address off the queue that is wanted again.
    pub fn cancel_release(&self, cidr: &IpNet, ip: IpAddr) -> Result<(), LocalError> {
        let queued = self.read(|data| data.releases.get(&Release::key_of(cidr, ip)).cloned());
        queued.map_or(Ok(()), |release| self.settle_release(&release))
    }

    pub(super) fn queue_release(
        &self,
        data: &mut LocalData,
        cidr: &IpNet,
        ip: IpAddr,
    ) -> Result<(), LocalError> {
        let until_ms = self.moment();
        self.store_release(data, Release { cidr: *cidr, ip, until_ms })
    }

    fn store_release(&self, data: &mut LocalData, release: Release) -> Result<(), LocalError> {
        files::write(&self.file("releases", &release.file_name()), &release, false)?;
        data.releases.insert(release.key(), release);
        Ok(())
    }
}
