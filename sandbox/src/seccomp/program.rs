//! From a table of answers to a program of the kernel's packet filter machine: a search tree over call numbers, with the
//! tests of arguments at its leaves.
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
}

impl Answer {
    fn code(self) -> u32 {
        match self {
            Answer::Allow => libc::SECCOMP_RET_ALLOW,
            Answer::Refuse => libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs(),
            Answer::Unknown => libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs(),
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
        let ranges = ranges(answers);
        let mut instructions = vec![
            load(ARCHITECTURE_OFFSET),
            jump_if_equal(ARCHITECTURE, 1, 0),
            give(libc::SECCOMP_RET_KILL_PROCESS),
            load(NUMBER_OFFSET),
        ];
        search(&ranges, &mut instructions);
        Filter { instructions }
    }

    /// The instructions.
    pub fn instructions(&self) -> &[libc::sock_filter] {
        &self.instructions
    }
}

/// Cuts all numbers into ranges, each given by its first number; neighbours with the same verdict are one range.
fn ranges(answers: Answers) -> Vec<(u32, Verdict)> {
    let mut points: BTreeMap<u32, Verdict> = BTreeMap::new();
    points.insert(0, Answer::Allow.into());
    for number in answers.calls.keys() {
        points.insert(number + 1, Answer::Allow.into());
    }
    points.insert(answers.newest + 1, Answer::Unknown.into());
    points.insert(X32_FIRST, Answer::Refuse.into());
    points.extend(answers.calls);
    let mut ranges: Vec<(u32, Verdict)> = Vec::with_capacity(points.len());
    for (first, verdict) in points {
        if ranges.last().is_none_or(|(_, last)| *last != verdict) {
            ranges.push((first, verdict));
        }
    }
    ranges
}

fn search(ranges: &[(u32, Verdict)], out: &mut Vec<libc::sock_filter>) {
    if let [(_, verdict)] = ranges {
        return decide(verdict, out);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let mut left = Vec::new();
    search(low, &mut left);
    let distance = u32::try_from(left.len()).expect("programs have at most 4096 instructions");
    match u8::try_from(distance) {
        Ok(near) => out.push(instruction(JUMP_IF_AT_LEAST, near, 0, high[0].0)),
        Err(_) => {
            out.push(instruction(JUMP_IF_AT_LEAST, 0, 1, high[0].0));
            out.push(instruction(JUMP, 0, 0, distance));
        }
    }
    out.append(&mut left);
    search(high, out);
}

fn decide(verdict: &Verdict, out: &mut Vec<libc::sock_filter>) {
    for (tests, answer) in &verdict.cases {
        // Three instructions a test; a failed one skips the rest of its case and the answer.
        for (index, test) in tests.iter().enumerate() {
            let rest = u8::try_from((tests.len() - index - 1) * 3 + 1).expect("a case has a handful of tests");
            let half = match test.half {
                Half::Low => 0,
                Half::High => 4,
            };
            out.push(load(ARGUMENTS_OFFSET + 8 * u32::from(test.argument) + half));
            out.push(instruction(AND, 0, 0, test.mask));
            out.push(match test.relation {
                Relation::Is => jump_if_equal(test.value, 0, rest),
                Relation::IsNot => jump_if_equal(test.value, rest, 0),
            });
        }
        out.push(give(answer.code()));
    }
    out.push(give(verdict.otherwise.code()));
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JUMP_IF_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

fn load(offset: u32) -> libc::sock_filter {
    instruction(LOAD, 0, 0, offset)
}

fn jump_if_equal(value: u32, then: u8, otherwise: u8) -> libc::sock_filter {
    instruction(JUMP_IF_EQUAL, then, otherwise, value)
}

fn give(code: u32) -> libc::sock_filter {
    instruction(RETURN, 0, 0, code)
}

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
        prop_oneof![Just(Answer::Allow), Just(Answer::Refuse), Just(Answer::Unknown)]
    }

    proptest! {
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
