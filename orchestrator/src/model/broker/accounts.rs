//! The budget of a run while its workers call: who has to wait, who is refused, and what is booked however a call ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use swarm_plans::{Budget, InstanceId, TaskBudget, TaskIx};
use swarm_protocol::chat::Usage;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Caller, Whose};
use crate::event::Counted;
use crate::ids::Attempt;
use crate::model::budget::{AccountId, Amount, Exhausted, Ledger, Limit, NanoUsd, Prices, Reservation, Tokens};

/// The accounts of one run.
#[derive(Debug)]
pub struct Accounts {
    books: Mutex<Books>,
    began: Instant,
    /// A call was settled.
    settled: Notify,
}

#[derive(Debug)]
struct Books {
    ledger: Ledger,
    run: AccountId,
    tasks: Vec<AccountId>,
    attempt_limits: Vec<Limit>,
    attempts: HashMap<(InstanceId, Attempt), AccountId>,
    /// What attempts spent that were cut short, until somebody goes on in their place.
    cut_short: HashMap<InstanceId, Spent>,
}

/// What earlier coordinators of the run spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Tokens and money.
    pub amount: Amount,
    /// Milliseconds of waiting for models.
    pub time_ms: u64,
}

/// What is set aside for one call. Dropping it without a word books all of it once the call was sent: nobody knows what an
/// abandoned one cost. One that still waited for its turn cost nothing.
#[derive(Debug)]
pub struct Held {
    accounts: Arc<Accounts>,
    account: AccountId,
    reservation: Option<Reservation>,
    worst: Usage,
    prices: Option<Prices>,
    receipt: Receipt,
    is_sent: bool,
}

/// What was booked for a call and its tries, however they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Booked {
    /// Tokens.
    pub usage: Usage,
    /// Money for what has a price.
    pub cost: NanoUsd,
    /// Whether something of it has none.
    pub priced: Priced,
    /// Whether its provider said all of it.
    pub counted: Counted,
}

/// Whether all that was booked has a price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Priced {
    /// All.
    #[default]
    All,
    /// Not all.
    NotAll,
}

/// Where the tries of one call are added up.
pub type Receipt = Arc<Mutex<Booked>>;

impl Booked {
    fn add(&mut self, usage: &Usage, cost: Option<NanoUsd>, counted: Counted) {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        self.usage = Usage {
            input: sum(self.usage.input, usage.input),
            cache_read: sum(self.usage.cache_read, usage.cache_read),
            cache_write: sum(self.usage.cache_write, usage.cache_write),
            cache_write_long: sum(self.usage.cache_write_long, usage.cache_write_long),
            output: sum(self.usage.output, usage.output),
        };
        self.counted = self.counted.max(counted);
        match cost {
            Some(cost) => self.cost.0 = self.cost.0.saturating_add(cost.0),
            None => self.priced = Priced::NotAll,
        }
    }
}

fn limit(budget: &Budget) -> Limit {
    Limit {
        tokens: budget.tokens,
        usd: budget.usd.and_then(NanoUsd::from_usd),
        time_ms: budget.time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
    }
}

impl Accounts {
    /// The accounts of a run whose tasks have these budgets, in plan order: one for the run, one a task below it, one an attempt
    /// below that.
    pub fn new(run: &Budget, tasks: &[TaskBudget]) -> Self {
        let mut ledger = Ledger::default();
        let run = ledger.open(None, limit(run));
        let attempt_limits = tasks.iter().map(|budget| limit(&budget.attempt)).collect();
        let tasks = tasks.iter().map(|budget| ledger.open(Some(run), limit(&budget.task))).collect();
        let books = Books { ledger, run, tasks, attempt_limits, attempts: HashMap::new(), cut_short: HashMap::new() };
        Accounts { books: Mutex::new(books), began: Instant::now(), settled: Notify::new() }
    }

    /// Has each task that another one adds draw from the budget of that one, too.
    pub fn with_givers(self, givers: impl IntoIterator<Item = Option<TaskIx>>) -> Self {
        {
            let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
            let books = &mut *books;
            for (task, giver) in books.tasks.iter().zip(givers) {
                if let Some(giver) = giver.and_then(|giver| books.tasks.get(giver.index())) {
                    books.ledger.put_below(*task, *giver);
                }
            }
        }
        self
    }

    /// Books what earlier coordinators of the run spent for a task; for the run alone, where the task is not known any more.
    pub fn carry_over(&self, task: Option<TaskIx>, spent: Spent) {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let account = task.and_then(|task| books.tasks.get(task.index()).copied()).unwrap_or(books.run);
        books.ledger.carry_over(account, spent.amount, spent.time_ms);
    }

    /// Has the instance's next attempt go on with what those spent in whose place it goes on: its task and the run have it
    /// already.
    pub fn go_on(&self, instance: InstanceId, spent: Spent) {
        self.books.lock().unwrap_or_else(PoisonError::into_inner).cut_short.insert(instance, spent);
    }

    /// Whether tokens or money of a caller have an end: only what its calls are bound to is what they can take.
    pub fn are_bounded(&self, caller: &Caller) -> bool {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let account = books.account(caller);
        books.ledger.is_bounded(account)
    }

    /// Sets the most aside that a call can take. Waits where other calls hold what may come back.
    ///
    /// # Errors
    /// Whose budget will never be enough, and why.
    pub async fn reserve(
        self: &Arc<Self>,
        caller: &Caller,
        most: Tokens,
        prices: Option<Prices>,
        receipt: &Receipt,
    ) -> Result<Held, (Whose, Exhausted)> {
        loop {
            // Listening begins before asking: what is settled between both is heard.
            let settled = self.settled.notified();
            match self.try_reserve(caller, most, prices, receipt) {
                Ok(held) => return Ok(held),
                Err((_, why)) if why.may_pass() => settled.await,
                Err(refused) => return Err(refused),
            }
        }
    }

    fn try_reserve(
        self: &Arc<Self>,
        caller: &Caller,
        most: Tokens,
        prices: Option<Prices>,
        receipt: &Receipt,
    ) -> Result<Held, (Whose, Exhausted)> {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let account = books.account(caller);
        let reserved = books.ledger.reserve(account, most, prices.as_ref(), self.now_ms());
        let reservation = reserved.map_err(|why| (books.whose(why.account()), why))?;
        let worst = Usage { input: Some(most.input), output: Some(most.output), ..Usage::default() };
        let (accounts, receipt) = (Arc::clone(self), Arc::clone(receipt));
        Ok(Held { accounts, account, reservation: Some(reservation), worst, prices, receipt, is_sent: false })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Books {
    fn account(&mut self, caller: &Caller) -> AccountId {
        let key = (caller.instance.clone(), caller.attempt);
        if let Some(account) = self.attempts.get(&key) {
            return *account;
        }
        let parent = self.tasks.get(caller.task.index()).copied().unwrap_or(self.run);
        let limit = self.attempt_limits.get(caller.task.index()).copied().unwrap_or_default();
        let account = self.ledger.open(Some(parent), limit);
        if let Some(spent) = self.cut_short.remove(&caller.instance) {
            self.ledger.carry_over_alone(account, spent.amount, spent.time_ms);
        }
        self.attempts.insert(key, account);
        account
    }

    fn whose(&self, account: AccountId) -> Whose {
        match account {
            account if account == self.run => Whose::Run,
            account if self.tasks.contains(&account) => Whose::Task,
            _ => Whose::Attempt,
        }
    }
}

/// What a provider counted. A zero counts nothing where something was: no request is empty, and no answer that says anything.
/// Servers that cannot count say zero for both, and a budget that believed them would have no end.
fn counted(usage: &Usage, arrived: Option<u64>) -> Usage {
    let cached = usage.cache_read.unwrap_or(0).saturating_add(usage.cache_write.unwrap_or(0));
    let is_empty = arrived.is_some_and(|tokens| tokens <= super::trial::input_at_most("[]".len()));
    Usage {
        input: usage.input.filter(|input| *input > 0 || cached > 0),
        output: usage.output.filter(|output| *output > 0 || is_empty),
        ..*usage
    }
}

impl Held {
    /// Waits until the time of one of the budgets is over.
    pub async fn time_is_over(&self) -> (Whose, Exhausted) {
        loop {
            let settled = self.accounts.settled.notified();
            let left = {
                let books = self.accounts.books.lock().unwrap_or_else(PoisonError::into_inner);
                books.ledger.time_left_ms(self.account, self.accounts.now_ms())
            };
            match left {
                None => std::future::pending::<()>().await,
                Some(0) => return self.over(),
                // Others that begin meanwhile use it up faster: that is seen after a second at the latest.
                Some(left) => tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(left.min(1000))) => {}
                    () = settled => {}
                },
            }
        }
    }

    fn over(&self) -> (Whose, Exhausted) {
        let mut books = self.accounts.books.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = self.accounts.now_ms();
        let nothing = Tokens::default();
        match books.ledger.reserve(self.account, nothing, self.prices.as_ref(), now_ms) {
            Err(why) => (books.whose(why.account()), why),
            Ok(reservation) => {
                books.ledger.settle(reservation, None, None, now_ms);
                (books.whose(self.account), Exhausted::Time { account: self.account, limit_ms: 0 })
            }
        }
    }

    /// What the call can cost at most, with all that was booked of its tries until now.
    pub fn at_most(&self) -> Booked {
        let mut booked = *self.receipt.lock().unwrap_or_else(PoisonError::into_inner);
        booked.add(&self.worst, self.prices.as_ref().map(|prices| prices.cost(&self.worst)), Counted::AtMost);
        booked
    }

    /// The call is sent now.
    pub fn sent(mut self) -> Self {
        self.is_sent = true;
        self
    }

    /// The call took this; counts that its provider does not give are booked as the most they can be. A provider that counts
    /// the request and not the answer lost its last word: as much as `arrived`, in tokens, is the most then.
    pub fn took(mut self, usage: &Usage, arrived: Option<u64>) {
        let usage = &counted(usage, arrived);
        let is_said = usage.input.is_some() && usage.output.is_some();
        let arrived = arrived.filter(|_| usage.input.is_some()).unwrap_or(u64::MAX);
        let most = self.worst.output.map(|worst| worst.min(arrived));
        let booked = Usage { input: usage.input.or(self.worst.input), output: usage.output.or(most), ..*usage };
        self.settle(Some((booked, if is_said { Counted::Said } else { Counted::AtMost })));
    }

    /// The call was refused before it cost anything.
    pub fn took_nothing(mut self) {
        self.settle(None);
    }

    /// The call broke off after so many bytes of an answer: its request is paid for, and what was said until then.
    pub fn broke_off(mut self, answer_bytes: u64) {
        let output = self.worst.output.map(|most| most.min(answer_bytes));
        self.settle(Some((Usage { output, ..self.worst }, Counted::AtMost)));
    }

    fn settle(&mut self, took: Option<(Usage, Counted)>) {
        let Some(reservation) = self.reservation.take() else { return };
        let now_ms = self.accounts.now_ms();
        let cost = {
            let mut books = self.accounts.books.lock().unwrap_or_else(PoisonError::into_inner);
            books.ledger.settle(reservation, took.as_ref().map(|(usage, _)| usage), self.prices.as_ref(), now_ms)
        };
        self.accounts.settled.notify_waiters();
        if let Some((usage, counted)) = took {
            self.receipt.lock().unwrap_or_else(PoisonError::into_inner).add(&usage, cost, counted);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.settle(self.is_sent.then_some((self.worst, Counted::AtMost)));
    }
}

#[cfg(test)]
mod tests {
    use swarm_protocol::chat::{Reply, Stop};

    use super::*;

    fn caller(instance: &str) -> Caller {
        let models: Arc<[String]> = Arc::new([]);
        Caller { instance: InstanceId(instance.into()), task: TaskIx(0), attempt: Attempt(1), models }
    }

    fn tokens(budget: u64) -> Budget {
        Budget { tokens: Some(budget), ..Budget::default() }
    }

    const CALL: Tokens = Tokens { input: 40, output: 20 };

    #[tokio::test(flavor = "current_thread")]
    async fn a_call_waits_for_what_others_may_give_back() {
        let accounts = Arc::new(Accounts::new(&tokens(100), &[TaskBudget::default()]));
        let first = accounts.reserve(&caller("a"), CALL, None, &Receipt::default()).await.unwrap();
        let waiting = tokio::spawn({
            let accounts = Arc::clone(&accounts);
            async move { accounts.reserve(&caller("b"), CALL, None, &Receipt::default()).await.map(Held::took_nothing) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        first.took(&Usage { input: Some(30), output: Some(5), ..Usage::default() }, None);
        assert!(waiting.await.unwrap().is_ok());
        let held = accounts.reserve(&caller("b"), CALL, None, &Receipt::default()).await.unwrap();
        drop(held);
        let held = accounts.reserve(&caller("b"), CALL, None, &Receipt::default()).await.unwrap();
        drop(held.sent());
        let refused = accounts.reserve(&caller("c"), CALL, None, &Receipt::default()).await.unwrap_err();
        assert_eq!(refused.0, Whose::Run, "what was abandoned behind its sending is booked: {}", refused.1);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn each_account_has_its_limit_and_past_spending_counts() {
        let budget = TaskBudget { task: tokens(150), attempt: tokens(70) };
        let accounts = Arc::new(Accounts::new(&Budget::default(), &[budget]));
        let whose = |instance: &'static str| {
            let accounts = Arc::clone(&accounts);
            async move {
                match accounts.reserve(&caller(instance), CALL, None, &Receipt::default()).await {
                    Ok(held) => {
                        held.took(&Usage { input: Some(40), output: Some(20), ..Usage::default() }, None);
                        None
                    }
                    Err((whose, _)) => Some(whose),
                }
            }
        };
        assert_eq!((whose("a").await, whose("a").await), (None, Some(Whose::Attempt)));
        accounts.carry_over(Some(TaskIx(0)), Spent { amount: Amount { tokens: 40, usd: NanoUsd(0) }, time_ms: 0 });
        assert_eq!(whose("b").await, Some(Whose::Task));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_attempt_goes_on_with_what_the_one_before_it_spent_until_its_coordinator_died() {
        let budget = TaskBudget { task: tokens(1000), attempt: tokens(70) };
        let accounts = Arc::new(Accounts::new(&Budget::default(), &[budget]));
        accounts.go_on(InstanceId("a".into()), Spent { amount: Amount { tokens: 40, usd: NanoUsd(0) }, time_ms: 0 });
        let ask = |instance: &'static str, attempt: u32| {
            let (accounts, caller) = (Arc::clone(&accounts), Caller { attempt: Attempt(attempt), ..caller(instance) });
            async move { accounts.reserve(&caller, CALL, None, &Receipt::default()).await.map(Held::took_nothing) }
        };
        assert_eq!(ask("a", 2).await.map_err(|(whose, _)| whose), Err(Whose::Attempt));
        assert_eq!((ask("b", 1).await, ask("a", 3).await), (Ok(()), Ok(())), "a try of its own has its own");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_a_task_adds_draws_from_its_budget_too() {
        let giver = TaskBudget { task: tokens(150), ..TaskBudget::default() };
        let tasks = [TaskBudget::default(), giver, TaskBudget::default()];
        let givers = [Some(TaskIx(1)), None, Some(TaskIx(0))];
        let accounts = Arc::new(Accounts::new(&Budget::default(), &tasks).with_givers(givers));
        let ask = |task: u32| {
            let (accounts, caller) = (Arc::clone(&accounts), Caller { task: TaskIx(task), ..caller("a") });
            async move { accounts.reserve(&caller, CALL, None, &Receipt::default()).await }
        };
        drop(ask(2).await.unwrap().sent());
        accounts.carry_over(Some(TaskIx(0)), Spent { amount: Amount { tokens: 40, usd: NanoUsd(0) }, time_ms: 0 });
        let refused = ask(0).await.unwrap_err();
        assert_eq!(refused.0, Whose::Task, "{}", refused.1);
        assert!(matches!(ask(1).await, Err((Whose::Task, _))));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_answer_whose_last_count_is_missing_is_booked_as_what_arrived() {
        let accounts = Arc::new(Accounts::new(&Budget::default(), &[]));
        for (usage, arrived, output) in [
            (Usage { input: Some(9), ..Usage::default() }, Some(7), 7),
            (Usage { input: Some(9), ..Usage::default() }, Some(700), 20),
            (Usage { input: Some(9), ..Usage::default() }, None, 20),
            (Usage::default(), Some(7), 20),
            (Usage { input: Some(9), output: Some(0), ..Usage::default() }, Some(7), 7),
            (Usage { input: Some(9), output: Some(0), ..Usage::default() }, None, 20),
            (Usage { input: Some(0), output: Some(0), ..Usage::default() }, Some(7), 20),
            (Usage { cache_read: Some(9), input: Some(0), output: Some(0), ..Usage::default() }, Some(7), 7),
        ] {
            let receipt = Receipt::default();
            accounts.reserve(&caller("a"), CALL, None, &receipt).await.unwrap().took(&usage, arrived);
            let booked = receipt.lock().unwrap();
            assert_eq!((booked.usage.output, booked.counted), (Some(output), Counted::AtMost), "{usage:?} {arrived:?}");
        }
    }

    #[test]
    fn a_zero_is_believed_only_where_nothing_was() {
        let said = |input, cached, output, arrived| {
            let usage = Usage { input: Some(input), cache_read: cached, output: Some(output), ..Usage::default() };
            let usage = counted(&usage, arrived);
            (usage.input, usage.output)
        };
        let empty = super::super::trial::arrived(&Reply { content: vec![], stop: Stop::End, usage: Usage::default() });
        assert_eq!(said(5, None, 0, empty), (Some(5), Some(0)), "it says nothing");
        assert_eq!(said(0, Some(5), 3, Some(7)), (Some(0), Some(3)), "all of the request was in the cache");
        assert_eq!(said(0, None, 0, Some(7)), (None, None));
        assert_eq!(said(0, Some(0), 3, Some(7)), (None, Some(3)));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_answer_that_broke_off_is_paid_for_as_far_as_it_came() {
        let accounts = Arc::new(Accounts::new(&Budget::default(), &[TaskBudget::default()]));
        let receipt = Receipt::default();
        let (input, output, cache_life) = (2, 3, crate::model::budget::CacheLife::Usual);
        let prices = Prices { input, output, cache_read: 0, cache_write: 0, cache_write_long: 0, cache_life };
        accounts.reserve(&caller("a"), CALL, Some(prices), &receipt).await.unwrap().broke_off(7);
        accounts.reserve(&caller("a"), CALL, Some(prices), &receipt).await.unwrap().took_nothing();
        let booked = *receipt.lock().unwrap();
        assert_eq!((booked.usage.input, booked.usage.output, booked.cost), (Some(40), Some(7), NanoUsd(80 + 21)));
        accounts.reserve(&caller("a"), CALL, None, &receipt).await.unwrap().broke_off(0);
        assert_eq!(receipt.lock().unwrap().priced, Priced::NotAll);
    }
}
