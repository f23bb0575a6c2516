using FsCheck;
using FsCheck.Fluent;
using Microsoft.FSharp.Core;

namespace SieveAttention.Tests.Support;

/// <summary>Properties over random cases. A case is a function of one integer, which a failure prints.</summary>
internal static class Properties
{
    /// <summary>Runs an assertion for the same random seeds in every run.</summary>
    public static void ForAllSeeds(Action<int> assertion, int count = 60)
    {
        Replay replay = new(new Rnd(0x51E7EUL, 0x9E3779B97F4A7C15UL), FSharpOption<int>.None);
        Config config = Config.QuickThrowOnFailure.WithMaxTest(count).WithQuietOnSuccess(true).WithReplay(FSharpOption<Replay>.Some(replay));
        Prop.ForAll(Gen.Choose(0, int.MaxValue - 1).ToArbitrary(), assertion).Check(config);
    }
}
