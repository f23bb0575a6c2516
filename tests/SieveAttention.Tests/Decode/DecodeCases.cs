using NUnit.Framework;

namespace SieveAttention.Tests.Decode;

/// <summary>What every operator's decode is compared with its prefill on: device, form of the cache, one or several new rows.</summary>
internal static class DecodeCases
{
    /// <summary>Device, whether the cache is paged, new rows of a step.</summary>
    public static IEnumerable<TestCaseData> All
    {
        get
        {
            foreach (AttentionDevice device in (AttentionDevice[])[AttentionDevice.Reference, AttentionDevice.Cpu])
            {
                foreach (bool paged in (bool[])[false, true])
                {
                    foreach (int rows in (int[])[1, 3])
                    {
                        yield return new TestCaseData(device, paged, rows)
                            .SetArgDisplayNames(device.Name, paged ? "paged" : "contiguous", $"{rows} rows");
                    }
                }
            }
        }
    }

    /// <summary>Against the Reference device's prefill, relative to the largest output of the sequence.</summary>
    public static double Tolerance(AttentionDevice device) => device.Kind == AttentionDeviceKind.Reference ? 1e-12 : 2e-5;
}
