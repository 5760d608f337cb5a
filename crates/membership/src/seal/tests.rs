use super::*;

const OLD: &[u8] = b"an old secret of 32 octets, good";
const NEW: &[u8] = b"a new secret of 32 octets, good!";

fn keys(cluster: &str, secrets: &[&[u8]]) -> Keys {
    Keys::new(cluster, secrets).expect("good secrets")
}

fn sealed_by(keys: &Keys) -> Vec<u8> {
    let me = MemberId::of("n1");
    keys.of(me).seal(keys, me, 7, 1, b"message").expect("sealed")
}

fn opened_by(keys: &Keys, datagram: &[u8]) -> Result<Vec<u8>, Refusal> {
    let sealed = Sealed::parse(datagram)?;
    keys.of(sealed.sender).open(keys, &sealed, &mut [0; MAX_MESSAGE]).map(<[u8]>::to_vec)
}

#[test]
fn a_key_is_changed_without_a_datagram_lost() {
    let steps = [&[OLD][..], &[OLD, NEW], &[NEW, OLD], &[NEW]].map(|secrets| keys("c", secrets));
    for (from, to, opens) in
        [(0, 1, true), (1, 0, true), (1, 2, true), (2, 1, true), (2, 3, true), (3, 2, true), (0, 3, false)]
    {
        let expected = if opens { Ok(b"message".to_vec()) } else { Err(Refusal::Key) };
        assert_eq!(opened_by(&steps[to], &sealed_by(&steps[from])), expected, "step {from} to step {to}");
    }
}

#[test]
fn another_cluster_with_the_same_secret_opens_nothing() {
    let datagram = sealed_by(&keys("one", &[OLD]));
    assert_eq!(opened_by(&keys("two", &[OLD]), &datagram), Err(Refusal::Key));
    // Even where the key id is the same by chance: the cluster is in the key and in the associated data.
    let (mut other, two) = (datagram.clone(), sealed_by(&keys("two", &[OLD])));
    other[1..5].copy_from_slice(&two[1..5]);
    assert_eq!(opened_by(&keys("two", &[OLD]), &other), Err(Refusal::Seal));
}

#[test]
fn every_octet_is_under_the_seal() {
    let keys = keys("c", &[OLD]);
    let datagram = sealed_by(&keys);
    for at in 0..datagram.len() {
        let mut damaged = datagram.clone();
        damaged[at] ^= 1;
        let refusal = opened_by(&keys, &damaged).expect_err("damaged");
        let expected = match at {
            0 => Refusal::Version { have: 0 },
            1..5 => Refusal::Key,
            _ => Refusal::Seal,
        };
        assert_eq!(refusal, expected, "octet {at}");
    }
}

#[test]
fn a_datagram_too_short_or_too_long_is_refused_by_its_length() {
    let keys = keys("c", &[OLD]);
    let datagram = sealed_by(&keys);
    for have in 0..HEADER + TAG {
        assert_eq!(opened_by(&keys, &datagram[..have]), Err(Refusal::Length { have }));
    }
    let long = vec![VERSION; MAX_DATAGRAM + 1];
    assert_eq!(opened_by(&keys, &long), Err(Refusal::Length { have: MAX_DATAGRAM + 1 }));
    assert_eq!(opened_by(&keys, &long[1..]), Err(Refusal::Key));
}

#[test]
fn members_seal_the_same_message_differently() {
    let keys = keys("c", &[OLD]);
    let seal = |node: &str| keys.of(MemberId::of(node)).seal(&keys, MemberId::of("n1"), 7, 1, b"message").unwrap();
    assert_ne!(seal("n1")[HEADER..], seal("n2")[HEADER..], "a nonce used by two members must not give one key stream");
}

#[test]
fn bad_secrets_are_refused_with_the_way_out() {
    for (secrets, text) in [
        (&[][..], "the Secret holds 0 keys; give one, or two while the key is changed"),
        (&[OLD, NEW, OLD], "the Secret holds 3 keys; give one, or two while the key is changed"),
        (&[OLD, b"short"], "key 2 of the Secret has 5 octets; give at least 16, best 32 random ones"),
    ] {
        assert_eq!(Keys::new("c", secrets).map(drop).map_err(|error| error.to_string()), Err(text.to_owned()));
    }
}
