//! Prints what each operation costs: the ground for [`super::is_slow_in_private`] and for keeping
//! parsed keys in handles.
//!
//! `make test` prints it; it claims nothing, since a timed claim would depend on the machine.

use std::time::{Duration, Instant};

use twinkeep_core::key::{KeySpec, KeyUsage};

use super::asymmetric::{self, Pair};
use crate::backend::{KeyTemplate, Message};

/// The mean of as many runs as fit in 50 ms.
fn cost<T>(mut work: impl FnMut() -> T) -> Duration {
    let began = Instant::now();
    let mut runs = 0;
    while runs < 3 || began.elapsed() < Duration::from_millis(50) {
        std::hint::black_box(work());
        runs += 1;
    }
    began.elapsed() / runs
}

#[test]
fn costs() {
    println!("{:10} {:>12} {:>12} {:>12} {:>12}", "spec", "generate", "open", "private", "public");
    for spec in KeySpec::ALL.iter().copied().filter(|spec| spec.is_asymmetric()) {
        let template = KeyTemplate { spec, usage: KeyUsage::SignVerify, ..super::probe_template() };
        let algorithm = spec.algorithms(KeyUsage::SignVerify)[0];
        let began = Instant::now();
        let (pkcs8, _) = asymmetric::generate(&template).unwrap();
        let generate = began.elapsed();
        let pair = Pair::open(&template, pkcs8.danger_expose()).unwrap();
        let message = Message::Raw(b"message");
        let signature = pair.sign(&template, algorithm, message).unwrap();
        let open = cost(|| Pair::open(&template, pkcs8.danger_expose()).unwrap());
        let sign = cost(|| pair.sign(&template, algorithm, message).unwrap());
        let verify = cost(|| pair.verify(&template, algorithm, message, &signature).unwrap());
        println!(
            "{:10} {generate:>12.1?} {open:>12.1?} {sign:>12.1?} {verify:>12.1?}",
            spec.as_str()
        );
    }
}
