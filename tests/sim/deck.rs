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
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;

use super::journal;

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

/// Polls of tasks that one run may take in all, several times what worlds of twenty hosts take.
const TURNS: u64 = 1_500_000;
/// Polls that it may take while not a millisecond passes.
const TURNS_AT_ONE_TIME: u64 = 100_000;
/// Of the last polls before either limit everything is recorded, and they are counted by task.
const LAST: u64 = 20_000;

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Slot {
    owner: Owner,
    place: &'static Location<'static>,
    task: Option<Task>,
    waker: Waker,
}

struct Deck {
    slots: BTreeMap<u64, Slot>,
    last: u64,
    frozen: BTreeSet<Owner>,
    luck: StdRng,
    ready: Arc<Ready>,
    turns: Turns,
}

/// How often tasks were polled, so that a run that gets nowhere ends.
struct Turns {
    all: u64,
    now: u64,
    time: Instant,
    last: BTreeMap<(Owner, String), u64>,
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

/// Runs `main`, and what it spawns, until it ends; then everything is dropped. Answers how many polls that
/// took as well.
pub(crate) async fn run<T: 'static>(seed: u64, main: impl Future<Output = T> + 'static) -> (T, u64) {
    let ready = Arc::new(Ready::default());
    let luck = StdRng::seed_from_u64(seed);
    let deck = Deck {
        slots: BTreeMap::new(),
        last: 0,
        frozen: BTreeSet::new(),
        luck,
        ready: Arc::clone(&ready),
        turns: Turns { all: 0, now: 0, time: Instant::now(), last: BTreeMap::new() },
    };
    DECK.with(|current| *current.borrow_mut() = Some(deck));
    let result = std::rc::Rc::new(RefCell::new(None));
    let told = std::rc::Rc::clone(&result);
    spawn(Owner::World, async move {
        let ended = main.await;
        *told.borrow_mut() = Some(ended);
    });
    let ended = poll_fn(|context| turn(context, &ready, &result)).await;
    let polls = with(|deck| deck.turns.all);
    close();
    (ended, polls)
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
        count_turn(id);
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

/// Counts a poll; panics if the run gets nowhere any more.
fn count_turn(id: u64) {
    let over = with(|deck| {
        let (turns, now) = (&mut deck.turns, Instant::now());
        turns.all += 1;
        turns.now = if turns.time == now { turns.now + 1 } else { 0 };
        turns.time = now;
        let left = (TURNS - turns.all).min(TURNS_AT_ONE_TIME - turns.now);
        if left >= LAST {
            turns.last.clear();
            return None;
        }
        journal::keep_lines();
        if let Some(slot) = deck.slots.get(&id) {
            let place = format!("{}:{}", slot.place.file(), slot.place.line());
            *turns.last.entry((slot.owner, place)).or_default() += 1;
        }
        (left == 0).then(|| {
            let mut last: Vec<_> = turns.last.iter().map(|(task, count)| (*count, task.clone())).collect();
            last.sort_by(|one, other| other.cmp(one));
            last.truncate(10);
            (turns.all, turns.now, last)
        })
    });
    let Some((all, now, tasks)) = over else { return };
    let lines = journal::lines();
    let lines = &lines[lines.len().saturating_sub(40)..];
    let tasks: Vec<_> = tasks.iter().map(|(count, task)| format!("{count} times {task:?}")).collect();
    panic!(
        "a livelock: {all} polls, the last {now} of them at one time\n  of the last {LAST}:\n  {}\n  at last:\n  {}",
        tasks.join("\n  "),
        lines.join("\n  ")
    );
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
#[track_caller]
pub(crate) fn spawn(owner: Owner, task: impl Future<Output = ()> + 'static) {
    let place = Location::caller();
    with(|deck| {
        deck.last += 1;
        let id = deck.last;
        let waker = Waker::from(Arc::new(Flag { id, ready: Arc::clone(&deck.ready) }));
        deck.slots.insert(id, Slot { owner, place, task: Some(Box::pin(task)), waker });
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
