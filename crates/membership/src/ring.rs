//! Who watches whom: each member is watched by its K successors on a ring of hashes, so what a node sends and receives
//! does not grow with the cluster. With K + 1 members or fewer everybody watches everybody.
//!
//! Why K = 5. A verdict needs more than half of the observers. With 5 that is 3: two observers may be deaf, frozen or
//! wrong at the same time and a healthy member stays in, and two may be dead and a dead one still goes out without
//! waiting for them. 3 observers would tolerate one of each; 7 would cost 40 % more for a third that does not happen to one
//! member at a time. An odd number, since an even one needs as many votes as the next odd one.

use crate::MemberId;

/// The `count` members of `live` that come after `of` on the ring, itself left out. `live` is sorted.
pub(crate) fn successors(live: &[MemberId], of: MemberId, count: usize) -> impl Iterator<Item = MemberId> + '_ {
    let start = live.partition_point(|id| *id <= of);
    live[start..].iter().chain(&live[..start]).copied().filter(move |id| *id != of).take(count)
}

/// Those of `all` that `me` watches: the members for which `me` is among the first `count` live successors. Members that are
/// not live stand between the others and take no place. `all` is sorted.
pub(crate) fn watched_by(
    all: &[MemberId],
    me: MemberId,
    count: usize,
    is_live: impl Fn(MemberId) -> bool,
) -> Vec<MemberId> {
    let start = all.partition_point(|id| *id < me);
    let backwards = all[..start].iter().rev().chain(all[start..].iter().rev()).copied().filter(|id| *id != me);
    let mut between = 0;
    backwards
        .take_while(|id| {
            let watched = between < count;
            between += usize::from(is_live(*id));
            watched
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(n: u8) -> MemberId {
        MemberId([n; 8])
    }

    #[test]
    fn successors_go_round_and_leave_the_member_itself_out() {
        let live: Vec<_> = [1, 3, 5, 7].map(id).to_vec();
        for (of, count, expected) in [
            (1, 2, &[3, 5][..]),
            (5, 2, &[7, 1]),
            (4, 2, &[5, 7]), // one that is not live
            (9, 2, &[1, 3]),
            (1, 5, &[3, 5, 7]),
        ] {
            let found: Vec<_> = successors(&live, id(of), count).collect();
            assert_eq!(found, expected.iter().map(|n| id(*n)).collect::<Vec<_>>(), "{count} after {of}");
        }
    }

    proptest! {
        #[test]
        fn whoever_i_watch_has_me_among_its_successors(
            members in proptest::collection::btree_map(any::<u8>(), any::<bool>(), 2..40),
            me in any::<proptest::sample::Index>(),
            count in 1usize..7,
        ) {
            let all: Vec<_> = members.keys().map(|n| id(*n)).collect();
            let me = all[me.index(all.len())];
            let is_live = |of: MemberId| of == me || members[&of.0[0]];
            let live: Vec<_> = all.iter().copied().filter(|of| is_live(*of)).collect();
            let mut expected: Vec<_> = all.iter().copied()
                .filter(|of| *of != me && successors(&live, *of, count).any(|observer| observer == me)).collect();
            let mut watched = watched_by(&all, me, count, is_live);
            expected.sort();
            watched.sort();
            prop_assert_eq!(watched, expected);
        }
    }
}
