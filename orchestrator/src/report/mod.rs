//! (next)

#[cfg(test)]
pub(crate) mod story;
