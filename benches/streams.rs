//! What sessions cost apart from sockets and disks: append → durable → ack, append → followers, catching up.

#[allow(dead_code, reason = "the paths of other rooms are for counting")]
mod paths;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn sessions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("streams");
    for path in [paths::append(), paths::follow(), paths::catch_up()].into_iter().flatten() {
        group.throughput(Throughput::Elements(path.work.records));
        let mut step = path.prepare();
        group.bench_function(&path.name, |bencher| bencher.iter(&mut step));
    }
    group.finish();
}

criterion_group!(benches, sessions);
criterion_main!(benches);
