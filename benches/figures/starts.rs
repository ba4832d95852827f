use anyhow::Result;

use crate::{Context, figure::Figure};

pub(crate) fn run(_: &Context) -> Result<Vec<Figure>> {
    Ok(Vec::new())
}
