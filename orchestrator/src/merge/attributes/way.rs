//! The folders from the top of a tree to one of them, with their files of attributes: of two paths in the order of a tree, most of the
//! way is the same, and is walked once.

use git2::{Odb, Oid};

use super::{NAME, OnTheWay, bytes_of};
use crate::merge::fold::FoldError;
use crate::tree::{self, Entry, Listing};

/// A folder of a tree.
#[derive(Debug)]
pub(super) struct Above {
    /// How many bytes of a path lead to it.
    pub above: usize,
    listing: Listing,
    /// Its file of attributes.
    pub file: Option<OnTheWay>,
}

/// Goes on to a folder, with a slash at its end, from where `way` ends.
pub(super) fn go_on(odb: &Odb<'_>, tree: Oid, folder: &[u8], way: &mut Vec<Above>) -> Result<(), FoldError> {
    loop {
        let (above, at) = match way.last() {
            None => (0, tree),
            Some(Above { above, listing, .. }) => {
                let Some(slash) = folder[*above..].iter().position(|&byte| byte == b'/') else { break };
                match tree::get(listing, &folder[*above..above + slash]) {
                    Some(below) if below.is_tree() => (above + slash + 1, below.id),
                    // Ours has nothing there, so nothing of it speaks of the path.
                    _ => break,
                }
            }
        };
        let listing = tree::list(odb, at)?;
        let on_the_way = |file| Ok::<_, FoldError>(OnTheWay { file, bytes: bytes_of(odb, file)?.unwrap_or(0), above });
        let file = file_of(&listing).map(on_the_way).transpose()?;
        way.push(Above { above, listing, file });
    }
    Ok(())
}

/// The attributes of one folder; git reads no link in their place.
fn file_of(folder: &Listing) -> Option<Oid> {
    let is_file = |entry: &Entry| matches!(entry.canonical().mode, tree::FILE | tree::EXECUTABLE);
    tree::get(folder, NAME).filter(is_file).map(|entry| entry.id)
}
