//! Names of hosts and their addresses, as the system knows them. getaddrinfo(3) can be neither waited for on the event loop nor given
//! up, and where a name server does not answer it takes half a minute: each question has a thread of its own, so that git and the
//! file system never wait for a network, and whoever asks has room for a few questions at once.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use crate::threads::apart;

/// Questions of one asker that are under way at once.
const QUESTIONS_MAX: usize = 4;

/// One asker's room for questions.
#[derive(Debug, Clone)]
pub struct Lookups {
    room: Arc<Semaphore>,
}

/// A host has no address here.
#[derive(Debug, thiserror::Error)]
#[error("its name is not known here: {0}")]
pub struct Nameless(String);

impl Default for Lookups {
    fn default() -> Self {
        Lookups { room: Arc::new(Semaphore::new(QUESTIONS_MAX)) }
    }
}

impl Lookups {
    /// The addresses of `name`, with `port`. Given up, it frees its room when the system has answered, and asks nothing where it had
    /// none yet.
    ///
    /// # Errors
    /// The system's: no such name, nobody who knows, no thread.
    pub async fn addresses(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let name = name.to_owned();
        self.with_room(move || (name.as_str(), port).to_socket_addrs().map(Iterator::collect)).await
    }

    async fn with_room<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(io::Error::other)?;
        let asking = move || {
            let _room = room;
            question()
        };
        apart("name", asking).await?
    }
}

impl Resolve for Lookups {
    fn resolve(&self, name: Name) -> Resolving {
        let lookups = self.clone();
        Box::pin(async move {
            // The port is put in by whoever connects.
            let found = lookups.addresses(name.as_str(), 0).await.map_err(|error| Nameless(error.to_string()))?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::threads::event_loop;

    #[test]
    fn questions_that_hang_hold_up_their_asker_and_nobody_else() {
        let (answer, answered) = mpsc::channel::<()>();
        let answered = Arc::new(std::sync::Mutex::new(answered));
        event_loop().unwrap().block_on(async {
            let (asker, other) = (Lookups::default(), Lookups::default());
            let hung: Vec<_> = (0..3 * QUESTIONS_MAX)
                .map(|_| {
                    let (asker, answered) = (asker.clone(), Arc::clone(&answered));
                    let hang = move || answered.lock().unwrap().recv().map_err(io::Error::other);
                    tokio::spawn(async move { asker.with_room(hang).await })
                })
                .collect();
            tokio::task::yield_now().await;
            assert_eq!(asker.room.available_permits(), 0);
            assert_eq!(tokio::task::spawn_blocking(|| 7).await.unwrap(), 7, "the pool is free");
            assert!(other.with_room(|| Ok(())).await.is_ok());
            // Nobody waits any more: what has not begun never does, and what has frees its room.
            hung.iter().for_each(tokio::task::JoinHandle::abort);
            drop(answer);
            assert!(asker.with_room(|| Ok(())).await.is_ok());
        });
    }
}
