//! One bandwidth allocation of a receiver among a hundred sources.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use rialto_engine::egress::allocation::{Allocator, Config, Layer, LayerId, Wanted};
use rialto_media::SourceId;

/// A camera as browsers send it, with the frame rates of each encoding.
fn camera() -> Vec<Layer> {
    let rates = [(0.4, 7.5), (0.6, 15.0), (1.0, 30.0)];
    let encodings = [(180, 155_000.0), (360, 540_000.0), (720, 2_550_000.0)];
    let layer = |encoding: usize, temporal: usize| Layer {
        id: LayerId { encoding: encoding as u8, spatial: 0, temporal: temporal as u8 },
        bps: (encodings[encoding].1 * rates[temporal].0) as u64,
        height: Some(encodings[encoding].0),
        fps: Some(rates[temporal].1),
        active: true,
    };
    (0..9).map(|n| layer(n / 3, n % 3)).collect()
}

fn allocation(c: &mut Criterion) {
    let layers = camera();
    let encodings: Vec<Layer> =
        layers.iter().filter(|layer| layer.id.temporal == 2).copied().collect();
    let mut allocator = Allocator::new(Config::default());
    let mut group = c.benchmark_group("allocation");
    for (name, layers, bps) in [
        ("100 sources of 3 layers, 20 Mbit/s", &encodings, 20_000_000),
        ("100 sources of 9 layers, 20 Mbit/s", &layers, 20_000_000),
        ("100 sources of 9 layers, enough", &layers, u64::MAX),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                allocator.begin();
                for source in 0..100 {
                    let on_stage = source == 0;
                    let wanted = Wanted { on_stage, ..Wanted::new(SourceId(source)) };
                    allocator.add(wanted, black_box(layers));
                }
                allocator.run(Some(black_box(bps)))
            });
        });
    }
}

criterion_group!(benches, allocation);
criterion_main!(benches);
