//! Our own signed record: signed again only when its content changes, each time with a higher sequence number.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Enr, EnrBuilder, EnrError, EnrPair, NodeRecord, RecordError, SecretKey, discv4::LocalContent};

/// Signs our record and remembers the last one.
#[derive(Debug)]
pub(super) struct Publisher {
    key: SecretKey,
    /// What our record says besides the content.
    pairs: Vec<EnrPair>,
    published: Option<Enr>,
}

impl Publisher {
    /// `published` is the record of an earlier run.
    pub(super) fn new(key: SecretKey, pairs: Vec<EnrPair>, published: Option<Enr>) -> Self {
        Self { key, pairs, published }
    }

    /// The record that says `content`: the last one, if it still does.
    pub(super) fn publish(&mut self, content: &LocalContent, now: SystemTime) -> Result<Enr, EnrError> {
        let seq = match &self.published {
            Some(last) if self.builder(content, last.seq()).same_content(last) => return Ok(last.clone()),
            Some(last) => last.seq().saturating_add(1),
            // As go-ethereum begins: above whatever a lost database had counted to, at less than one change a millisecond.
            // Never 0, which says that there is no record.
            None => unix_millis(now).max(1),
        };
        let record = self.builder(content, seq).sign(&self.key)?;
        self.published = Some(record.clone());
        Ok(record)
    }

    fn builder(&self, content: &LocalContent, seq: u64) -> EnrBuilder {
        self.pairs.iter().fold(content.builder(seq), EnrBuilder::with)
    }
}

/// The record as others use it.
pub(super) fn as_node(record: &Enr) -> Result<NodeRecord, RecordError> {
    NodeRecord::from_enr(record.clone())
}

fn unix_millis(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_sequence_number_grows_with_the_content_and_only_then() {
        let key = SecretKey::from_bytes(&[1; 32]).unwrap();
        let now = UNIX_EPOCH + Duration::from_millis(1_800_000_000_123);
        let content =
            |tcp| LocalContent { v4: Some("127.0.0.1:30303".parse().unwrap()), tcp, ..LocalContent::default() };
        let mut publisher = Publisher::new(key.clone(), Vec::new(), None);
        let first = publisher.publish(&content(1), now).unwrap();
        assert_eq!(first.seq(), 1_800_000_000_123);
        assert_eq!(publisher.publish(&content(1), now + Duration::from_secs(9)).unwrap(), first);
        let second = publisher.publish(&content(2), now).unwrap();
        assert_eq!((second.seq(), second.tcp()), (first.seq() + 1, Some(2)));

        // After a restart the record of the earlier run goes on.
        let mut publisher = Publisher::new(key.clone(), Vec::new(), Some(second.clone()));
        assert_eq!(publisher.publish(&content(2), now).unwrap(), second);
        assert_eq!(publisher.publish(&content(3), now).unwrap().seq(), second.seq() + 1);

        // With another pair it is another record.
        let pair = EnrPair::new("eth", &[0xc1, 0xc0]).unwrap();
        let mut publisher = Publisher::new(key, vec![pair], Some(second.clone()));
        let third = publisher.publish(&content(2), now).unwrap();
        assert_eq!((third.seq(), third.get(b"eth")), (second.seq() + 1, Some(&[0xc1, 0xc0][..])));
        assert_eq!(publisher.publish(&content(2), now).unwrap(), third);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_take_the_sequence_number_with_it() {
        let key = SecretKey::from_bytes(&[1; 32]).unwrap();
        let content = |tcp| LocalContent { tcp, ..LocalContent::default() };
        let now = UNIX_EPOCH + Duration::from_millis(1_800_000_000_123);
        let mut publisher = Publisher::new(key.clone(), Vec::new(), None);
        let mut last = publisher.publish(&content(1), now).unwrap().seq();
        let back = [now - Duration::from_secs(3600), UNIX_EPOCH, UNIX_EPOCH - Duration::from_secs(1)];
        for (tcp, wall) in (2..).zip(back) {
            let seq = publisher.publish(&content(tcp), wall).unwrap().seq();
            assert_eq!(seq, last + 1);
            last = seq;
        }
        assert_eq!(Publisher::new(key, Vec::new(), None).publish(&content(1), UNIX_EPOCH).unwrap().seq(), 1);
    }
}
