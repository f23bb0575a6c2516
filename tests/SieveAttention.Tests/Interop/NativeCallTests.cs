using NUnit.Framework;
using SieveAttention.Interop;

namespace SieveAttention.Tests.Interop;

/// <summary>The way down to the native functions, as far as it goes without a device.</summary>
internal sealed unsafe class NativeCallTests
{
    [Test]
    public void An_entry_calls_the_functions_that_it_names()
    {
        if (!NativeLoader.TryEnsureLoaded(out string? failure))
        {
            Assert.Ignore(failure);
        }

        NativeEntry<SieveSoftmaxForwardArguments> entry =
            new("sieve_softmax_forward", &SieveNative.SoftmaxForwardWorkspace, &SieveNative.SoftmaxForward);
        SieveAttentionProblem problem = new() { struct_size = (uint)sizeof(SieveAttentionProblem) };
        SieveSoftmaxForwardArguments arguments = new() { struct_size = (uint)sizeof(SieveSoftmaxForwardArguments) };
        ulong bytes = 0;
        Assert.That(entry.Workspace(0, &problem, &arguments, &bytes), Is.EqualTo((int)SieveStatus.InvalidArgument));
        Assert.That(NativeStatus.LastMessage(), Does.StartWith("sieve_softmax_forward_workspace: context"));
        Assert.That(entry.Launch(0, &problem, &arguments, 0, 0, 0), Is.EqualTo((int)SieveStatus.InvalidArgument));
        Assert.That(NativeStatus.LastMessage(), Does.StartWith("sieve_softmax_forward: context"));
    }
}
