//! The tries of an instance: nearly all instances have one, and that one takes no memory of its own.

use std::ops::{Deref, DerefMut};
use std::{mem, slice};

use super::AttemptState;

/// The tries of an instance, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Tries {
    /// It was never started.
    #[default]
    None,
    /// Nearly all instances have one.
    One(AttemptState),
    /// Two or more.
    More(Vec<AttemptState>),
}

impl Deref for Tries {
    type Target = [AttemptState];

    fn deref(&self) -> &[AttemptState] {
        match self {
            Tries::None => &[],
            Tries::One(only) => slice::from_ref(only),
            Tries::More(all) => all,
        }
    }
}

impl DerefMut for Tries {
    fn deref_mut(&mut self) -> &mut [AttemptState] {
        match self {
            Tries::None => &mut [],
            Tries::One(only) => slice::from_mut(only),
            Tries::More(all) => all,
        }
    }
}

impl Tries {
    /// One more; returns it.
    pub(super) fn push(&mut self, newest: AttemptState) -> &mut AttemptState {
        *self = match mem::take(self) {
            Tries::None => Tries::One(newest),
            Tries::One(first) => Tries::More(vec![first, newest]),
            Tries::More(mut all) => {
                all.push(newest);
                Tries::More(all)
            }
        };
        self.last_mut().expect("it was just added")
    }
}
