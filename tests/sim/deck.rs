//! Runs the tasks of all hosts on one thread, in an order that the seed draws. A task belongs to somebody
//! who can be killed, with all of his tasks at once and in the middle of anything, or frozen.
//!
//! tokio wakes those who wait for a `watch` in an order that no seed decides. Here a wake only says that a
//! task may run; which of those that may is next, the deck draws.

use std::{
    any::Any,
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// Whose a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// The simulation's own: the store, the network, the person at the keyboard.
    World,
    /// The engine of a host.
    Engine(usize),
    /// The daemon of a host.
    Daemon(usize),
}

/// What unwinds a task whose owner is killed in the middle of it.
pub(crate) struct Killed(pub(crate) usize);

/// Tasks that one poll of the deck runs before tokio's own get their turn.
const AT_ONCE: usize = 64;

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Slot {
    owner: Owner,
    task: Option<Task>,
    waker: Waker,
}

struct Deck {
    slots: BTreeMap<u64, Slot>,
    last: u64,
    frozen: BTreeSet<Owner>,
    luck: StdRng,
    ready: Arc<Ready>,
}

#[derive(Default)]
struct Ready(Mutex<(BTreeSet<u64>, Option<Waker>)>);

struct Flag {
    id: u64,
    ready: Arc<Ready>,
}

thread_local! {
    static DECK: RefCell<Option<Deck>> = const { RefCell::new(None) };
}

impl Ready {
    fn mark(&self, id: u64) {
        let mut state = self.0.lock().unwrap();
        state.0.insert(id);
        if let Some(waker) = &state.1 {
            waker.wake_by_ref();
        }
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.ready.mark(self.id);
    }
}

fn with<T>(look: impl FnOnce(&mut Deck) -> T) -> T {
    DECK.with(|deck| look(deck.borrow_mut().as_mut().expect("a deck is open")))
}

/// Runs `main`, and what it spawns, until it ends; then everything is dropped.
pub(crate) async fn run<T: 'static>(seed: u64, main: impl Future<Output = T> + 'static) -> T {
    let ready = Arc::new(Ready::default());
    let luck = StdRng::seed_from_u64(seed);
    let deck =
        Deck { slots: BTreeMap::new(), last: 0, frozen: BTreeSet::new(), luck, ready: Arc::clone(&ready) };
    DECK.with(|current| *current.borrow_mut() = Some(deck));
    let result = std::rc::Rc::new(RefCell::new(None));
    let told = std::rc::Rc::clone(&result);
    spawn(Owner::World, async move {
        let ended = main.await;
        *told.borrow_mut() = Some(ended);
    });
    let ended = poll_fn(|context| turn(context, &ready, &result)).await;
    close();
    ended
}

/// Drops all that is left, also after a panic.
pub(crate) fn close() {
    let tasks = DECK.with(|deck| deck.borrow_mut().as_mut().map(|deck| std::mem::take(&mut deck.slots)));
    drop(tasks);
    DECK.with(|deck| deck.borrow_mut().take());
}

fn turn<T>(context: &mut Context<'_>, ready: &Ready, result: &RefCell<Option<T>>) -> Poll<T> {
    ready.0.lock().unwrap().1 = Some(context.waker().clone());
    for _ in 0..AT_ONCE {
        let Some((id, owner, mut task, waker)) = draw(ready) else { return Poll::Pending };
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut Context::from_waker(&waker))));
        match polled {
            Ok(Poll::Ready(())) => {
                with(|deck| deck.slots.remove(&id));
            }
            Ok(Poll::Pending) => put_back(id, task),
            Err(panic) => {
                drop(task);
                with(|deck| deck.slots.remove(&id));
                killed(owner, panic);
            }
        }
        if let Some(ended) = result.borrow_mut().take() {
            return Poll::Ready(ended);
        }
    }
    context.waker().wake_by_ref();
    Poll::Pending
}

/// One of the tasks that may run.
fn draw(ready: &Ready) -> Option<(u64, Owner, Task, Waker)> {
    with(|deck| {
        let mut state = ready.0.lock().unwrap();
        state.0.retain(|id| deck.slots.contains_key(id));
        let able = |id: &&u64| !deck.frozen.contains(&deck.slots[*id].owner);
        let count = state.0.iter().filter(able).count();
        if count == 0 {
            return None;
        }
        let at = deck.luck.random_range(0..count);
        let id = *state.0.iter().filter(able).nth(at)?;
        state.0.remove(&id);
        let slot = deck.slots.get_mut(&id)?;
        Some((id, slot.owner, slot.task.take()?, slot.waker.clone()))
    })
}

/// Puts a task back that waits again, unless its owner has been killed meanwhile.
fn put_back(id: u64, task: Task) {
    let killed = with(|deck| match deck.slots.get_mut(&id) {
        Some(slot) => {
            slot.task = Some(task);
            None
        }
        None => Some(task),
    });
    drop(killed);
}

fn killed(owner: Owner, panic: Box<dyn Any + Send>) {
    match panic.downcast::<Killed>() {
        Ok(killed) if owner == Owner::Daemon(killed.0) => super::host::kill_daemon(killed.0),
        Ok(_) => panic!("a daemon's effect in a task of {owner:?}"),
        Err(panic) => resume_unwind(panic),
    }
}

/// Runs `task` as one of `owner`'s.
pub(crate) fn spawn(owner: Owner, task: impl Future<Output = ()> + 'static) {
    with(|deck| {
        deck.last += 1;
        let id = deck.last;
        let waker = Waker::from(Arc::new(Flag { id, ready: Arc::clone(&deck.ready) }));
        deck.slots.insert(id, Slot { owner, task: Some(Box::pin(task)), waker });
        deck.ready.mark(id);
    });
}

/// Drops all tasks of `owner`, wherever they are.
pub(crate) fn kill(owner: Owner) {
    let tasks: Vec<Slot> = with(|deck| {
        let ids: Vec<u64> =
            deck.slots.iter().filter(|(_, slot)| slot.owner == owner).map(|(id, _)| *id).collect();
        ids.iter().filter_map(|id| deck.slots.remove(id)).collect()
    });
    drop(tasks);
}

/// From now on no task of `owner` runs, or they run again.
pub(crate) fn freeze(owner: Owner, frozen: bool) {
    with(|deck| {
        if frozen {
            deck.frozen.insert(owner);
            return;
        }
        deck.frozen.remove(&owner);
        let ready = Arc::clone(&deck.ready);
        if let Some(waker) = &ready.0.lock().unwrap().1 {
            waker.wake_by_ref();
        }
    });
}
