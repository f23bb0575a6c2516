using NUnit.Framework;
using SieveAttention.Interop;
using NativeStatusCode = SieveAttention.Interop.SieveStatus;

namespace SieveAttention.Tests.Interop;

internal sealed class NativeStatusTests
{
    [TestCase(NativeStatusCode.InvalidArgument, typeof(ArgumentException))]
    [TestCase(NativeStatusCode.Unsupported, typeof(NotSupportedException))]
    [TestCase(NativeStatusCode.Unavailable, typeof(PlatformNotSupportedException))]
    [TestCase(NativeStatusCode.OutOfMemory, typeof(SieveException))]
    [TestCase(NativeStatusCode.WorkspaceTooSmall, typeof(SieveException))]
    [TestCase(NativeStatusCode.DeviceError, typeof(SieveException))]
    [TestCase(NativeStatusCode.InternalError, typeof(SieveException))]
    public void Every_status_becomes_its_exception_with_the_native_message(NativeStatusCode status, Type expected)
    {
        Exception exception = NativeStatus.Translate(status, "sieve_example", "sieve_example: size is 3; allowed: 4");
        Assert.That(exception, Is.TypeOf(expected));
        Assert.That(exception.Message, Is.EqualTo("sieve_example: size is 3; allowed: 4"));
        if (exception is SieveException sieve)
        {
            Assert.That((int)sieve.Status, Is.EqualTo((int)status));
            Assert.That(sieve.Operation, Is.EqualTo("sieve_example"));
        }
    }

    [Test]
    public void A_status_without_a_message_is_still_named()
    {
        Assert.That(
            NativeStatus.Translate(NativeStatusCode.DeviceError, "sieve_example", "").Message,
            Is.EqualTo("sieve_example returned DeviceError without a message."));
    }

    [Test]
    public void Success_throws_nothing() => Assert.That(() => NativeStatus.Check(0, "sieve_example"), Throws.Nothing);

    [Test]
    public void The_public_statuses_are_those_of_the_interface()
    {
        Assert.That(
            Enum.GetValues<SieveAttention.SieveStatus>().Select(status => (status.ToString(), (int)status)),
            Is.EqualTo(Enum.GetValues<NativeStatusCode>().Select(status => (status.ToString(), (int)status))));
    }

    [Test]
    public void The_public_operations_and_directions_have_the_numbers_of_the_interface()
    {
        Assert.Multiple(() =>
        {
            Assert.That(
                Enum.GetValues<AttentionOperation>().Select(o => (int)o), Is.EqualTo(Enum.GetValues<SieveOperation>().Select(o => (int)o)));
            Assert.That((int)AttentionOperation.ThresholdDifferential, Is.EqualTo((int)SieveOperation.Tda));
            Assert.That((int)AttentionOperation.SparseSparse, Is.EqualTo((int)SieveOperation.Ssa));
            Assert.That(
                Enum.GetNames<AttentionDirection>(), Is.EqualTo(Enum.GetNames<SieveDirection>()));
        });
    }

    [Test]
    public void A_failed_native_call_carries_the_message_of_its_thread()
    {
        if (!NativeLoader.TryEnsureLoaded(out string? failure))
        {
            Assert.Ignore(failure);
        }

        // Fails before any device is needed: the argument itself is missing.
        Assert.That(
            CallWithoutArgument, Throws.ArgumentException.With.Message.StartsWith("sieve_device_count: ").And.Message.Contains("count"));

        static unsafe void CallWithoutArgument() => NativeStatus.Check(SieveNative.DeviceCount(null), "sieve_device_count");
    }
}
