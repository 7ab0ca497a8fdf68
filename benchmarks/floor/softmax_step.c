/* The exact softmax gradient of many policies, as few passes as there can be: the floor beside which the toy is timed.
 *
 * For each policy, logits theta [n], potential u [n]:  z = theta - max theta,  pi = e^z / sum e^z,
 * A = u - log pi,  theta <- log pi + eta pi (A - E_pi[A]).  One exponential a number; a policy stays in the cache for all
 * its updates. Compiled with -O3 -march=native -ffast-math, the compiler takes libmvec's vectorised exp.
 */
#include <math.h>
#include <stddef.h>

void softmax_steps(double *theta, const double *u, double *pi, size_t runs, size_t n, size_t steps, double eta) {
    for (size_t r = 0; r < runs; r++) {
        double *t = theta + r * n;
        const double *v = u + r * n;
        for (size_t k = 0; k < steps; k++) {
            double top = t[0], total = 0.0, mean = 0.0;
            for (size_t i = 1; i < n; i++) top = t[i] > top ? t[i] : top;
            for (size_t i = 0; i < n; i++) {
                pi[i] = exp(t[i] - top);
                total += pi[i];
            }
            const double log_z = top + log(total), scale = 1.0 / total;
            for (size_t i = 0; i < n; i++) {
                t[i] -= log_z;
                pi[i] *= scale;
                mean += pi[i] * (v[i] - t[i]);
            }
            for (size_t i = 0; i < n; i++) t[i] += eta * pi[i] * (v[i] - t[i] - mean);
        }
    }
}
