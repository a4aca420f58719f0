//! Named reasons and how often each was given. A reason is one value that is logged, counted, tested and shown to the operator.

/// Declares an enum of reasons, the list and the short names of them, and the counters of them, all from one table, so that none can be
/// forgotten.
macro_rules! reasons {
    (
        $(#[$doc:meta])* $reason:ident, counted by $(#[$counters_doc:meta])* $counters:ident,
        { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $reason {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $reason {
            /// Every one of them, in a fixed order.
            pub const ALL: &'static [$reason] = &[$($reason::$variant),*];

            /// A short name for metrics: lower case, words joined by `_`.
            pub const fn name(self) -> &'static str {
                match self { $($reason::$variant => $name,)* }
            }
        }

        impl std::fmt::Display for $reason {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        $(#[$counters_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $counters([u64; $reason::ALL.len()]);

        impl Default for $counters {
            fn default() -> Self {
                $counters([0; $reason::ALL.len()])
            }
        }

        impl $counters {
            /// Counts one more and hands it back.
            pub(crate) fn count(&mut self, reason: $reason) -> $reason {
                if let Some(counter) = self.0.get_mut(reason as usize) {
                    *counter += 1;
                }
                reason
            }

            /// How often it was counted.
            pub fn of(&self, reason: $reason) -> u64 {
                self.0.get(reason as usize).copied().unwrap_or(0)
            }

            /// All of them together.
            pub fn total(&self) -> u64 {
                self.0.iter().sum()
            }

            /// All of them with their counts, in a fixed order.
            pub fn iter(&self) -> impl Iterator<Item = ($reason, u64)> + '_ {
                $reason::ALL.iter().map(|reason| (*reason, self.of(*reason)))
            }
        }

        /// A map from the short names to the counts, those at 0 left out.
        impl serde::Serialize for $counters {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.iter().filter(|(_, count)| *count > 0).map(|(reason, count)| (reason.name(), count)))
            }
        }
    };
}

pub(crate) use reasons;
