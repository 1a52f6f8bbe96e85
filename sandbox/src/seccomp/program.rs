//! From a table of answers to a program of the kernel's packet filter machine: a search tree over call numbers, with the
//! tests of arguments at its leaves. What the kernel takes to install it grows with the number of instructions, so equal ends are
//! one where they can be.
//!
//! Source: seccomp(2); Documentation/networking/filter.rst for the instructions.

use std::collections::BTreeMap;

/// Calls of this number and above belong to the x32 ABI, which shares the architecture's mark with x86-64.
const X32_FIRST: u32 = 0x4000_0000;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

/// What the kernel answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Makes the call.
    Allow,
    /// Fails with `EPERM`.
    Refuse,
    /// Fails with `ENOSYS`, as on a kernel without the call.
    Unknown,
    /// Fails with `EOPNOTSUPP`, as on a file system without what it asks for.
    Unsupported,
    /// The [clerk](crate::clerk) answers.
    Ask,
}

impl Answer {
    fn code(self) -> u32 {
        match self {
            Answer::Allow => libc::SECCOMP_RET_ALLOW,
            Answer::Refuse => libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs(),
            Answer::Unknown => libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs(),
            Answer::Unsupported => libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP.unsigned_abs(),
            Answer::Ask => libc::SECCOMP_RET_USER_NOTIF,
        }
    }
}

/// A test of the low 32 bits of an argument: `argument & mask == value`. The kernel itself reads no more than 32 bits of
/// every argument that is tested here, so high bits cannot hide anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Test {
    /// Which argument, from 0.
    pub argument: u8,
    /// Which half of it: the kernel reads most arguments as 32 bits, and sizes as 64.
    pub half: Half,
    /// Bits that count.
    pub mask: u32,
    /// What they must be.
    pub value: u32,
    /// Whether equality or difference passes the test.
    pub relation: Relation,
}

/// Half of an argument of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Bits 0 to 31.
    Low,
    /// Bits 32 to 63.
    High,
}

/// How a tested argument compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The bits are the value.
    Is,
    /// They are not.
    IsNot,
}

/// What a call gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The first case whose tests all pass decides.
    pub cases: Vec<(Vec<Test>, Answer)>,
    /// What holds when no case does.
    pub otherwise: Answer,
}

impl From<Answer> for Verdict {
    fn from(otherwise: Answer) -> Self {
        Verdict { cases: Vec::new(), otherwise }
    }
}

/// Verdicts by call number; what is not in `calls` is allowed up to `newest` and unknown above.
#[derive(Debug, Clone)]
pub struct Answers {
    /// Calls with a verdict of their own.
    pub calls: BTreeMap<u32, Verdict>,
    /// The newest call that the table was written for.
    pub newest: u32,
}

/// A program that the kernel accepts.
#[derive(Debug, Clone)]
pub struct Filter {
    instructions: Vec<libc::sock_filter>,
}

/// Offsets in `struct seccomp_data`: number, architecture, instruction pointer, six arguments of 64 bits (little-endian).
const NUMBER_OFFSET: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;
const ARGUMENTS_OFFSET: u32 = 16;

impl Filter {
    /// Compiles the answers.
    pub fn new(answers: Answers) -> Self {
        let mut code = Code::default();
        let calls = code.search(&exceptions(answers));
        let number = code.load(NUMBER_OFFSET, calls);
        let other = code.answer(libc::SECCOMP_RET_KILL_PROCESS);
        let known = code.branch(JUMP_IF_EQUAL, ARCHITECTURE, number, other);
        code.load(ARCHITECTURE_OFFSET, known);
        Filter { instructions: code.reversed.into_iter().rev().collect() }
    }

    /// The instructions.
    pub fn instructions(&self) -> &[libc::sock_filter] {
        &self.instructions
    }
}

/// Calls in a row whose verdict is another one than plain [`Answer::Allow`].
#[derive(Debug)]
struct Exception {
    first: u32,
    last: u32,
    verdict: Verdict,
}

/// In the order of their numbers; neighbours with the same verdict are one.
fn exceptions(answers: Answers) -> Vec<Exception> {
    let allowed = Verdict::from(Answer::Allow);
    let known = answers.calls.into_iter().filter(|(number, _)| *number <= answers.newest);
    let known = known.map(|(number, verdict)| Exception { first: number, last: number, verdict });
    let newer = Exception { first: answers.newest + 1, last: X32_FIRST - 1, verdict: Answer::Unknown.into() };
    let x32 = Exception { first: X32_FIRST, last: u32::MAX, verdict: Answer::Refuse.into() };
    let mut all: Vec<Exception> = Vec::new();
    for exception in known.chain([newer, x32]).filter(|exception| exception.verdict != allowed) {
        match all.last_mut() {
            Some(before) if before.last + 1 == exception.first && before.verdict == exception.verdict => {
                before.last = exception.last;
            }
            _ => all.push(exception),
        }
    }
    all
}

/// So many exceptions are looked for one after the other: each costs one instruction there, and two in a tree.
const IN_A_ROW: usize = 4;
/// A branch reaches 255 instructions far; one stays free for each that may still come between.
const REACH: usize = 250;

/// A place in [`Code`]: how many instructions stand at it and behind it.
type Label = usize;

/// Instructions from the last one to the first: jumps lead forward, so where they lead to is known when they are written.
#[derive(Default)]
struct Code {
    reversed: Vec<libc::sock_filter>,
    /// Where each answer was given last.
    answers: BTreeMap<u32, Label>,
}

/// The start of a case: what it loads first, and the place behind that, for those who have it loaded.
#[derive(Clone, Copy)]
struct Start {
    label: Label,
    loaded: Option<(u32, Label)>,
}

impl Code {
    fn push(&mut self, instruction: libc::sock_filter) -> Label {
        self.reversed.push(instruction);
        self.reversed.len()
    }

    /// How many instructions a jump that is written next leaves out.
    fn distance(&self, to: Label) -> usize {
        self.reversed.len() - to
    }

    /// A place near by that leads to `to`.
    fn near(&mut self, to: Label) -> Label {
        if self.distance(to) <= REACH {
            return to;
        }
        let distance = u32::try_from(self.distance(to)).expect("programs have at most 4096 instructions");
        self.push(instruction(JUMP, 0, 0, distance))
    }

    /// A place near by that gives this answer.
    fn answer(&mut self, code: u32) -> Label {
        match self.answers.get(&code) {
            Some(&known) if self.distance(known) <= REACH => known,
            _ => {
                let label = self.push(instruction(RETURN, 0, 0, code));
                self.answers.insert(code, label);
                label
            }
        }
    }

    /// Loads 4 bytes of the call's data and goes on at `next`, which has to be what was written last.
    fn load(&mut self, offset: u32, next: Label) -> Label {
        assert_eq!(next, self.reversed.len(), "BUG: a load goes on with what stands behind it");
        self.push(instruction(LOAD, 0, 0, offset))
    }

    fn branch(&mut self, condition: u32, value: u32, then: Label, otherwise: Label) -> Label {
        let (then, otherwise) = (self.near(then), self.near(otherwise));
        let [then, otherwise] = [then, otherwise].map(|label| u8::try_from(self.distance(label)).expect("near"));
        self.push(instruction(condition, then, otherwise, value))
    }

    /// Finds the verdict of the loaded number.
    fn search(&mut self, exceptions: &[Exception]) -> Label {
        if exceptions.len() <= IN_A_ROW {
            let mut next = self.answer(Answer::Allow.code());
            for exception in exceptions.iter().rev() {
                next = self.compare(exception, next);
            }
            return next;
        }
        let (low, high) = exceptions.split_at(exceptions.len() / 2);
        let (right, left) = (self.search(high), self.search(low));
        self.branch(JUMP_IF_AT_LEAST, high[0].first, right, left)
    }

    fn compare(&mut self, exception: &Exception, next: Label) -> Label {
        let verdict = self.decide(&exception.verdict);
        if exception.first == exception.last {
            return self.branch(JUMP_IF_EQUAL, exception.first, verdict, next);
        }
        let up_to_last = match exception.last.checked_add(1) {
            Some(above) => self.branch(JUMP_IF_AT_LEAST, above, next, verdict),
            None => verdict,
        };
        self.branch(JUMP_IF_AT_LEAST, exception.first, up_to_last, next)
    }

    fn decide(&mut self, verdict: &Verdict) -> Label {
        let mut next = Start { label: self.answer(verdict.otherwise.code()), loaded: None };
        for (tests, answer) in verdict.cases.iter().rev() {
            next = self.case(tests, *answer, next);
        }
        next.label
    }

    /// Gives `answer` where all tests pass, and goes on at `next` where one does not.
    fn case(&mut self, tests: &[Test], answer: Answer, next: Start) -> Start {
        let mut here = Start { label: self.answer(answer.code()), loaded: None };
        for test in tests.iter().rev() {
            let offset = test.offset();
            // What failed has loaded what the next case begins with.
            let failed = match next.loaded {
                Some((loaded, behind)) if loaded == offset && test.mask == u32::MAX => behind,
                _ => next.label,
            };
            let (then, otherwise) = match test.relation {
                Relation::Is => (here.label, failed),
                Relation::IsNot => (failed, here.label),
            };
            let mut behind = self.branch(JUMP_IF_EQUAL, test.value, then, otherwise);
            if test.mask != u32::MAX {
                behind = self.push(instruction(AND, 0, 0, test.mask));
            }
            here = Start { label: self.load(offset, behind), loaded: Some((offset, behind)) };
        }
        here
    }
}

impl Test {
    fn offset(&self) -> u32 {
        let half = match self.half {
            Half::Low => 0,
            Half::High => 4,
        };
        ARGUMENTS_OFFSET + 8 * u32::from(self.argument) + half
    }
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JUMP_IF_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

fn instruction(code: u32, then: u8, otherwise: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).expect("operation codes have 16 bits"), jt: then, jf: otherwise, k }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs a program as the kernel does.
    fn run(filter: &Filter, architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = [number.to_le_bytes(), architecture.to_le_bytes(), [0; 4], [0; 4]].concat();
        data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let step = filter.instructions()[at];
            at += 1;
            match u32::from(step.code) {
                LOAD => {
                    let bytes = &data[usize::try_from(step.k).unwrap()..][..4];
                    accumulator = u32::from_le_bytes(bytes.try_into().unwrap());
                }
                AND => accumulator &= step.k,
                JUMP => at += usize::try_from(step.k).unwrap(),
                JUMP_IF_EQUAL => at += usize::from(if accumulator == step.k { step.jt } else { step.jf }),
                JUMP_IF_AT_LEAST => at += usize::from(if accumulator >= step.k { step.jt } else { step.jf }),
                RETURN => return step.k,
                code => unreachable!("BUG: instruction {code:#x}"),
            }
        }
    }

    fn is(argument: u8, mask: u32, value: u32) -> Test {
        Test { argument, half: Half::Low, mask, value, relation: Relation::Is }
    }

    #[test]
    fn another_architecture_is_killed() {
        let filter = Filter::new(Answers { calls: BTreeMap::new(), newest: 400 });
        assert_eq!(run(&filter, 0x4000_0003, 1, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(run(&filter, ARCHITECTURE, 1, [0; 6]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(run(&filter, ARCHITECTURE, 401, [0; 6]), Answer::Unknown.code());
        assert_eq!(run(&filter, ARCHITECTURE, X32_FIRST + 1, [0; 6]), Answer::Refuse.code());
    }

    #[test]
    fn high_bits_of_an_argument_hide_nothing() {
        let verdict = Verdict { cases: vec![(vec![is(1, !0, 0x5412)], Answer::Refuse)], otherwise: Answer::Allow };
        let filter = Filter::new(Answers { calls: [(16, verdict)].into(), newest: 400 });
        for high in [0, 1 << 32, 0xffff_ffff << 32] {
            assert_eq!(run(&filter, ARCHITECTURE, 16, [0, high | 0x5412, 0, 0, 0, 0]), Answer::Refuse.code());
            assert_eq!(run(&filter, ARCHITECTURE, 16, [0, high | 0x5413, 0, 0, 0, 0]), Answer::Allow.code());
        }
    }

    fn any_answer() -> impl Strategy<Value = Answer> {
        prop_oneof![Just(Answer::Allow), Just(Answer::Refuse), Just(Answer::Unknown), Just(Answer::Ask)]
    }

    fn any_test() -> impl Strategy<Value = Test> {
        let mask = prop_oneof![Just(u32::MAX), Just(3), Just(1)];
        (0u8..3, any::<bool>(), mask, 0u32..4, any::<bool>()).prop_map(|(argument, low, mask, value, is)| Test {
            argument,
            half: if low { Half::Low } else { Half::High },
            mask,
            value,
            relation: if is { Relation::Is } else { Relation::IsNot },
        })
    }

    fn any_verdict() -> impl Strategy<Value = Verdict> {
        let case = (proptest::collection::vec(any_test(), 1..4), any_answer());
        (proptest::collection::vec(case, 0..12), any_answer())
            .prop_map(|(cases, otherwise)| Verdict { cases, otherwise })
    }

    /// What a verdict means.
    fn meant(verdict: &Verdict, arguments: [u64; 6]) -> Answer {
        let passes = |test: &Test| {
            let argument = arguments[usize::from(test.argument)];
            let half = if test.half == Half::Low { argument & 0xffff_ffff } else { argument >> 32 };
            (u32::try_from(half).unwrap() & test.mask == test.value) == (test.relation == Relation::Is)
        };
        let decided = verdict.cases.iter().find(|(tests, _)| tests.iter().all(passes));
        decided.map_or(verdict.otherwise, |(_, answer)| *answer)
    }

    proptest! {
        #[test]
        fn every_test_of_arguments_means_what_its_table_says(
            calls in proptest::collection::btree_map(0u32..60, any_verdict(), 0..40),
            halves in proptest::collection::vec([0u64..4, 0u64..4, 0u64..4, 0u64..4, 0u64..4, 0u64..4], 20),
        ) {
            let filter = Filter::new(Answers { calls: calls.clone(), newest: 60 });
            for (number, verdict) in &calls {
                for [a, b, c, d, e, f] in &halves {
                    let arguments = [a << 32 | b, c << 32 | d, e << 32 | f, 0, 0, 0];
                    let got = run(&filter, ARCHITECTURE, *number, arguments);
                    prop_assert_eq!(got, meant(verdict, arguments).code(), "call {} of {:?}", number, arguments);
                }
            }
        }

        #[test]
        fn every_call_gets_the_answer_of_its_table(calls in proptest::collection::btree_map(0u32..460, any_answer(), 0..200)) {
            let table: BTreeMap<u32, Verdict> = calls.iter().map(|(&number, &answer)| (number, answer.into())).collect();
            let filter = Filter::new(Answers { calls: table, newest: 460 });
            prop_assert!(filter.instructions().len() < 4096);
            for number in 0..600 {
                let unlisted = if number <= 460 { Answer::Allow } else { Answer::Unknown };
                let expected = calls.get(&number).copied().unwrap_or(unlisted);
                prop_assert_eq!(run(&filter, ARCHITECTURE, number, [0; 6]), expected.code(), "call {}", number);
            }
        }
    }
}
