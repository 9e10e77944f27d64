//! The world a process runs in: time, senders, operators, faults; every step from one seed.
//!
//! Time jumps from one happening to the next. What a process would do by a thread or a task of its own is a
//! happening too, so that anything can come in between: a commit, a look into the backlog, an answer.

mod operator;
mod replays;
mod retention;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backstop::core::attempt::{Attempt, Outcome, Reply};
use backstop::core::delivery::{Delivery, State};
use backstop::core::name::Name;
use backstop::core::replay::Replay;
use backstop::core::scheduler::{Dispatch, Limits, Refill};
use backstop::core::timestamp::Timestamp;
use backstop::engine::dispatcher::{Command, Work, load};
use backstop::journal::memory::MemoryJournal;
use backstop::journal::{Change, Journal as _};
use backstop::telemetry::About;
use fastrand::Rng;
use tokio::sync::oneshot;

use super::check::{Checks, QUIET};
use super::far::Far;
use super::plan::{HOUR, MINUTE, Plan, SECOND};
use super::post::{Post, key, post};
use super::process::{Asked, Process};
use super::truth::Truth;
use retention::Swept;

const START: u64 = 1_790_000_000_000;
/// The longest sleep of the driver.
const SLEEP_MAX: u64 = 5 * SECOND;

#[derive(Debug)]
/// Something that happens at its time. Those of a process carry its number, and die with it.
enum Happening {
    Post(usize),
    Landed(u32, Dispatch, u64, Reply, u64),
    Turn(u32),
    Replay(u32),
    Sweep(u32),
    Read(u32, Refill),
    Told(u32, Command),
    Write(u32),
    Crash,
    Restart,
    Jump,
    Request,
    Reload,
    /// The troubles are over.
    Calm,
}

/// The mean time between happenings of a kind, if there are any, and one of them.
type Interval = (Option<u64>, fn() -> Happening);

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Report {
    pub(crate) events: usize,
    pub(crate) attempts: u64,
    pub(crate) crashes: u32,
    pub(crate) probes: u64,
    pub(crate) out_of_order: u64,
    pub(crate) dead: usize,
    /// Events whose payload retention has let go of.
    pub(crate) let_go: u64,
    /// A digest of everything that happened, in order.
    pub(crate) trace: u64,
}

pub(crate) struct World {
    seed: u64,
    rng: Rng,
    limits: Limits,
    /// The steady clock, in milliseconds, and by how much the wall clock is ahead.
    now: u64,
    wall_by: i64,
    happenings: BTreeMap<(u64, u64), Happening>,
    count: u64,
    far: Vec<Far>,
    /// Those of them that the config does not have at the moment.
    absent: BTreeSet<usize>,
    posts: Vec<Post>,
    stuck_key: Option<String>,
    stuck_until: u64,
    intervals: [Interval; 4],
    all_delivered: bool,
    is_calm: bool,
    journal: Arc<MemoryJournal>,
    process: Option<Process>,
    incarnation: u32,
    /// Whether the wall clock was set since the last process began.
    clock_was_set: bool,
    truth: Truth,
    checks: Checks,
    /// For attempts whose retry is on its way to the journal: when that is due.
    pending: BTreeMap<(u128, u16), u64>,
    report: Report,
    /// The replays, as they were checked last.
    seen_replays: Vec<Replay>,
    /// How many were begun.
    replays_begun: usize,
    /// What retention does, if it does anything.
    swept: Option<Swept>,
    /// Whether every step is printed.
    tells: bool,
}

/// Lives through a plan; what was wrong, if anything was.
pub(crate) fn run(plan: Plan, tells: bool) -> Result<Report, String> {
    let mut world = World::new(plan);
    world.tells = tells;
    world.live();
    if tells && let (Some(process), Some(_)) = (&world.process, &world.checks.violation) {
        println!("{:#?}", process.dispatcher);
    }
    match world.checks.violation.take() {
        None => Ok(world.report),
        Some(what) => Err(format!("seed {}, after {} ms: {what}", world.seed, world.now - START)),
    }
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut rng = Rng::with_seed(plan.seed ^ 0x5eed);
        let names: Vec<Name> = plan.endpoints.iter().map(|planned| planned.endpoint.name.clone()).collect();
        let shifted = plan.endpoints.into_iter().map(|mut planned| {
            planned.phases.iter_mut().for_each(|(until, _)| *until += START);
            Far::new(planned)
        });
        let far: Vec<Far> = shifted.collect();
        let journal = Arc::new(MemoryJournal::default());
        let mut world = Self {
            seed: plan.seed,
            limits: plan.limits,
            now: START,
            wall_by: 0,
            happenings: BTreeMap::new(),
            count: 0,
            posts: (0..plan.posts).map(|index| post(index, (plan.keys, plan.window), &names, &mut rng)).collect(),
            rng,
            stuck_key: plan.stuck_key.map(key),
            stuck_until: START + plan.span / 2,
            intervals: [
                (plan.crashes, || Happening::Crash),
                (plan.jumps, || Happening::Jump),
                (plan.requests, || Happening::Request),
                (plan.reloads, || Happening::Reload),
            ],
            all_delivered: plan.all_delivered,
            is_calm: false,
            truth: Truth::new(Arc::clone(&journal), far.iter().map(|far| &far.endpoint)),
            checks: Checks::new(plan.limits, &far),
            swept: plan.keep.map(|keep| Swept::new(keep, names.iter().cloned())),
            far,
            absent: BTreeSet::new(),
            journal,
            process: None,
            incarnation: 0,
            clock_was_set: false,
            pending: BTreeMap::new(),
            report: Report::default(),
            seen_replays: Vec::new(),
            replays_begun: 0,
            tells: false,
        };
        for index in 0..world.posts.len() {
            let after = world.rng.u64(0..plan.span);
            world.after(after, Happening::Post(index));
        }
        for index in 0..world.intervals.len() {
            world.again(index);
        }
        world.after(plan.span, Happening::Calm);
        world.after(0, Happening::Restart);
        world
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.now).shifted(self.wall_by)
    }

    fn after(&mut self, millis: u64, happening: Happening) {
        self.count += 1;
        self.happenings.insert((self.now + millis, self.count), happening);
    }

    /// Schedules the next fault or request of this kind.
    fn again(&mut self, index: usize) {
        let (interval, happening) = self.intervals[index];
        if let Some(mean) = interval.filter(|_| !self.is_calm) {
            let after = self.rng.u64(0..2 * mean);
            self.after(after, happening());
        }
    }

    fn live(&mut self) {
        let mut end = u64::MAX;
        while self.checks.violation.is_none()
            && let Some(((at, count), happening)) = self.happenings.pop_first()
        {
            if at > end {
                break;
            }
            self.now = at;
            self.note(&[at, count]);
            self.tell(|| format!("{happening:?}"));
            if matches!(happening, Happening::Calm) {
                end = at + QUIET;
            }
            let is_noticed = !matches!(happening, Happening::Jump);
            self.happen(happening);
            if is_noticed {
                self.crank();
            }
            let all_posted = self.posts.iter().all(|post| post.acknowledged.is_some());
            if self.is_calm && all_posted && self.truth.unfinished.is_empty() && self.are_replayed() {
                break;
            }
        }
        self.report.events = self.truth.heads.len();
        self.report.dead = self.truth.deliveries.values().filter(|delivery| delivery.state == State::Dead).count();
        self.tell(|| format!("{:?}", self.report));
        let gone = self.swept.as_ref().map(|swept| &swept.gone);
        self.report.let_go = gone.map_or(0, |gone| gone.len() as u64);
        self.checks.ended(self.now - START, (&self.truth, gone), &self.far, self.all_delivered);
        if self.checks.violation.is_none() {
            self.let_everything_go();
        }
    }

    fn note(&mut self, facts: &[u64]) {
        for fact in facts {
            // FNV-1a, a word at a time: to tell two runs apart is all it has to do.
            self.report.trace = (self.report.trace ^ fact).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            println!("{:>10} {}", self.now - START, what());
        }
    }

    fn is_of(&self, incarnation: u32) -> bool {
        self.process.is_some() && self.incarnation == incarnation
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Post(index) => self.post(index),
            Happening::Landed(of, dispatch, started, reply, took) if self.is_of(of) => {
                self.land(dispatch, started, reply, took);
            }
            Happening::Read(of, refill) if self.is_of(of) => {
                let answer = load(&*self.journal, &refill).unwrap();
                let after = self.rng.u64(0..=3);
                self.after(after, Happening::Told(of, answer));
            }
            Happening::Told(of, command) if self.is_of(of) => self.process().tell(command),
            Happening::Write(of) if self.is_of(of) => self.write(),
            Happening::Turn(of) if self.is_of(of) => {
                // One that was meant for now, or one of a clock that was set.
                let now = self.now;
                let _due = self.process().next_turn.take_if(|at| *at <= now);
            }
            Happening::Replay(of) if self.is_of(of) => self.work_replays(),
            Happening::Sweep(of) if self.is_of(of) => self.sweep(),
            Happening::Crash => {
                self.crash();
                self.again(0);
            }
            Happening::Restart => self.restart(),
            Happening::Jump => self.jump(),
            Happening::Request => self.request(),
            Happening::Reload => self.reload(),
            Happening::Calm => self.calm(),
            // Of a process that is gone.
            _ => {}
        }
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    fn post(&mut self, index: usize) {
        let now = self.wall();
        let draft = self.posts[index].draft.clone();
        match &mut self.process {
            Some(process) => process.accept(index, draft, now),
            None => {
                let after = self.rng.u64(SECOND..10 * SECOND);
                self.after(after, Happening::Post(index));
            }
        }
    }

    fn restart(&mut self) {
        assert!(self.process.is_none());
        let clocks = (self.wall(), Duration::from_millis(self.now));
        self.absent.clear();
        self.process = Some(Process::start(&self.journal, &self.far, self.limits, clocks, &mut self.rng));
        let wall = self.wall();
        for far in &self.far {
            let (name, process) = (&far.endpoint.name, self.process.as_ref().unwrap());
            let (on_disk, standing) =
                (self.journal.standing(name), process.dispatcher.lane(wall, name).unwrap().standing);
            self.checks.began(&far.endpoint, &on_disk, &standing);
        }
        self.checks.restarted(self.now, std::mem::take(&mut self.clock_was_set));
        if self.is_calm {
            self.resume_all();
        }
        self.schedule_replays(true);
        self.forget_sweep();
        self.schedule_sweep(true);
    }

    /// The process is killed: what the journal has is all that remains.
    fn crash(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        self.incarnation += 1;
        self.report.crashes += 1;
        for asked in std::mem::take(&mut process.asked) {
            if let Asked::Post(index, _) = asked {
                let after = self.rng.u64(SECOND..10 * SECOND);
                self.after(after, Happening::Post(index));
            }
        }
        drop(process);
        self.checks.crashed();
        self.pending.clear();
        self.truth.settled();
        self.look_at_pauses();
        let after = self.rng.u64(100..=60 * SECOND);
        self.after(after, Happening::Restart);
    }

    /// The wall clock is set; the driver notices at its next turn, at the latest after its longest sleep.
    fn jump(&mut self) {
        let by = self.rng.i64(-2..=2) * i64::try_from(HOUR / 2).unwrap() + self.rng.i64(1000..=5000);
        self.tell(|| format!("  the wall clock is set by {by} ms"));
        self.wall_by += by;
        self.clock_was_set = true;
        let (of, after) = (self.incarnation, self.rng.u64(0..=SLEEP_MAX));
        self.after(after, Happening::Turn(of));
        self.again(1);
    }

    /// No more faults, no more posts, every endpoint well: what waits must end now.
    fn calm(&mut self) {
        self.is_calm = true;
        self.happenings.retain(|_, happening| {
            !matches!(happening, Happening::Crash | Happening::Jump | Happening::Request | Happening::Reload)
        });
        if self.process.is_some() {
            self.configure(BTreeSet::new());
            self.resume_all();
            self.resume_replays();
        }
    }

    fn resume_all(&mut self) {
        for index in 0..self.far.len() {
            self.resume(index);
        }
    }

    fn resume(&mut self, index: usize) {
        let endpoint = self.far[index].endpoint.name.clone();
        self.checks.paused(&endpoint, false);
        let (reply, answer) = oneshot::channel();
        self.process().tell(Command::Resume(endpoint, reply));
        self.process().asked.push_back(Asked::Resume(index, answer));
    }

    fn land(&mut self, dispatch: Dispatch, started: u64, reply: Reply, took: u64) {
        let endpoint = dispatch.endpoint.clone();
        let far = self.far.iter().find(|far| far.endpoint.name == endpoint).unwrap();
        let attempt = Attempt {
            number: dispatch.attempt,
            started_at: Timestamp::from_millis(started),
            took_ms: u32::try_from(took).unwrap(),
            outcome: Outcome::classify(&reply, &far.endpoint.permanent),
            reply,
            probe: dispatch.probe,
            out_of_order: dispatch.out_of_order,
        };
        self.checks.landed(self.now, &endpoint, &attempt);
        self.report.attempts += 1;
        self.report.probes += u64::from(dispatch.probe);
        self.report.out_of_order += u64::from(dispatch.out_of_order);
        let about = About::new(dispatch.id, endpoint);
        self.process().tell(Command::Attempted(about, attempt));
    }

    /// The committer writes a group; a crash may come before, or before anybody hears of it.
    fn write(&mut self) {
        let at_most = self.rng.usize(1..=8);
        let may_crash = self.intervals[0].0.is_some() && !self.is_calm;
        let dies = if may_crash { self.rng.u32(0..2000) } else { u32::MAX };
        let process = self.process();
        let before = process.writer.gathered();
        process.writer.take_waiting(at_most);
        process.requests -= process.writer.gathered() - before;
        process.is_writing = false;
        self.hear_answers();
        if dies == 0 {
            return self.crash();
        }
        self.process().writer.commit();
        self.read_truth();
        if self.process().requests + self.process().writer.gathered() == 0 {
            self.truth.settled();
        }
        if dies == 1 {
            return self.crash();
        }
        self.hear_answers();
    }

    /// What the commit has changed.
    fn read_truth(&mut self) {
        for delivery in self.truth.refresh() {
            self.tell(|| format!("  stored {} {:?} {:?}", delivery.id, delivery.state, delivery.reason));
            let due = self.pending.remove(&place(&delivery)).filter(|_| !delivery.state.is_terminal());
            if delivery.attempts > 0 {
                self.checks.settled(delivery.id, &delivery.endpoint);
            }
            self.checks.stored(self.now, &delivery, due);
        }
        self.check_replays();
        self.check_sweep();
        self.look_at_pauses();
    }

    /// An endpoint that is paused on disk is paused, unless somebody has asked to resume it since.
    fn look_at_pauses(&mut self) {
        for (index, far) in self.far.iter().enumerate() {
            let asked = self.process.iter().flat_map(|process| &process.asked);
            let is_asked = asked.clone().any(|asked| matches!(asked, Asked::Resume(of, _) if *of == index));
            if self.journal.standing(&far.endpoint.name).pause.is_some() && !is_asked {
                self.checks.paused(&far.endpoint.name, true);
            }
        }
    }

    fn hear_answers(&mut self) {
        let mut asked = std::mem::take(&mut self.process().asked);
        asked.retain_mut(|asked| !self.hear(asked));
        self.process().asked.extend(asked);
    }

    /// Whether it was answered.
    fn hear(&mut self, asked: &mut Asked) -> bool {
        match asked {
            Asked::Post(index, answer) => {
                let Ok(answer) = answer.try_recv() else { return false };
                let id = answer.unwrap().id;
                let routed_to = self.posts[*index].draft.endpoints.len();
                self.checks.acknowledged(id, routed_to, &self.truth);
                self.posts[*index].acknowledged = Some(id);
                true
            }
            Asked::Pause(index, answer) => {
                let is_told = answer.try_recv().is_ok();
                // Whoever resumes it meanwhile wins.
                let on_disk = self.journal.standing(&self.far[*index].endpoint.name).pause.is_some();
                if is_told && on_disk {
                    self.look_at_pauses();
                }
                is_told
            }
            Asked::Resume(_, answer) => answer.try_recv().is_ok(),
            Asked::Cancel(answer) => answer.try_recv().is_ok(),
        }
    }

    /// Turns the process's crank as the driver does.
    fn crank(&mut self) {
        if self.process.is_none() {
            return;
        }
        let (wall, steady) = (self.wall(), Duration::from_millis(self.now));
        self.process().dispatcher.handle_clocks(wall, steady);
        while let Some(command) = self.process().next_command() {
            self.process().dispatcher.handle(wall, command);
        }
        while let Some(work) = self.process().dispatcher.poll_work(wall) {
            self.perform(work);
        }
        self.hear_answers();
        self.set_marks();
        self.schedule_write();
        self.schedule_turn(wall);
    }

    fn perform(&mut self, work: Work) {
        let of = self.incarnation;
        match work {
            Work::Send(dispatch) => self.send(dispatch),
            Work::Load(refill) => {
                let after = self.rng.u64(0..=3);
                self.after(after, Happening::Read(of, refill));
            }
            Work::Commit(change, then) => {
                if let Change::Settle(settlement) = &change {
                    self.truth.touch(settlement.id.event);
                    if let backstop::core::delivery::Step::Retry { due } = settlement.step {
                        let wait = due.millis().saturating_sub(self.wall().millis());
                        let place = (settlement.id.event.as_u128(), settlement.id.slot);
                        self.pending.insert(place, self.now + wait);
                    }
                }
                self.process().commit(change, move |result| Some(Command::Committed(then, result)));
            }
        }
    }

    fn send(&mut self, dispatch: Dispatch) {
        let wall = self.wall();
        let lane = self.process().dispatcher.lane(wall, &dispatch.endpoint).unwrap();
        self.note(&[u64::from(dispatch.id.slot), u64::from(dispatch.attempt), u64::from(dispatch.probe)]);
        self.tell(|| format!("  sent {dispatch:?}"));
        self.checks.departed(self.now, &dispatch, &lane, &self.truth);
        let (now, started) = (self.now, self.wall().millis());
        let key = self.truth.heads.get(&dispatch.id.event).and_then(|head| head.key.clone());
        let is_fine = dispatch.endpoint.as_str() == "fine";
        let is_stuck = !is_fine && key.is_some() && key == self.stuck_key && now < self.stuck_until;
        let far = self.far.iter_mut().find(|far| far.endpoint.name == dispatch.endpoint).unwrap();
        let (reply, took) = far.receive(now, dispatch.id, is_stuck, &mut self.rng);
        let of = self.incarnation;
        self.after(took, Happening::Landed(of, dispatch, started, reply, took));
    }

    fn set_marks(&mut self) {
        let now = self.now;
        let process = self.process.as_mut().unwrap();
        if now - process.marked_at >= SECOND {
            process.marked_at = now;
            for (endpoint, mark) in process.dispatcher.marks() {
                self.journal.set_mark(endpoint, mark);
            }
        }
    }

    fn schedule_write(&mut self) {
        let process = self.process.as_mut().unwrap();
        if process.requests + process.writer.gathered() > 0 && !process.is_writing {
            process.is_writing = true;
            let (of, after) = (self.incarnation, self.rng.u64(1..=5));
            self.after(after, Happening::Write(of));
        }
    }

    fn schedule_turn(&mut self, wall: Timestamp) {
        let process = self.process.as_ref().unwrap();
        let Some(due) = process.dispatcher.poll_timeout() else { return };
        // Longer sleeps only look at the clocks, and a jump brings a turn of its own.
        let at = self.now + due.millis().saturating_sub(wall.millis()).clamp(1, 24 * HOUR);
        if process.next_turn.is_none_or(|next| at < next) {
            self.process().next_turn = Some(at);
            let of = self.incarnation;
            self.after(at - self.now, Happening::Turn(of));
        }
    }
}

fn place(delivery: &Delivery) -> (u128, u16) {
    (delivery.id.event.as_u128(), delivery.id.slot)
}
